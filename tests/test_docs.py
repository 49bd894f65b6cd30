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


@pytest.mark.parametrize("name", [name for name in BLOCKS if name.startswith("inventory.md")])
def test_block_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(BLOCKS[name], name, "exec"), {})  # noqa: S102 - our own page
    assert capsys.readouterr().out
