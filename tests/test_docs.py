"""The code of the pages runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
BLOCKS = {
    f"{page.name} {number}": block
    for page in sorted(DOCS.glob("*.md"))
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL))
}


@pytest.mark.parametrize("page", ["calibration.md", "firm_step.md", "firms.md"])
def test_a_page_runs_from_top_to_bottom(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DOCS.parent)
    blocks, known = [block for name, block in BLOCKS.items() if name.startswith(page)], {}
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), known)  # noqa: S102 - our own page


@pytest.mark.parametrize("name", [name for name in BLOCKS if name.startswith("inventory.md")])
def test_block_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(BLOCKS[name], name, "exec"), {})  # noqa: S102 - our own page
    assert capsys.readouterr().out
