"""Every shipped configuration composes, names only what it may, and says where its numbers come from."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dpsc.errors import ConfigError
from dpsc.report import check_rows
from experiments import build, compose, schema

FILES = sorted(compose.CONF.rglob("*.yaml"))
EXPERIMENTS = sorted((compose.CONF / "experiment").glob("*.yaml"))


def named(path: Path) -> str:
    return str(path.relative_to(compose.CONF))


def targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield node["_target_"]
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from targets(value)


def test_there_are_experiments() -> None:
    assert EXPERIMENTS
    assert "seed_allocation" in {path.stem for path in EXPERIMENTS}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=named)
def test_an_experiment_belongs_to_a_group_that_can_be_reproduced_by_name(path: Path) -> None:
    assert yaml.safe_load(path.read_text())["group"] in schema.GROUPS, f"{path.name} must say group: one of {', '.join(schema.GROUPS)}"
    assert path.stem not in schema.GROUPS, "a name that means both an experiment and a group"


@pytest.mark.parametrize("path", EXPERIMENTS, ids=named)
def test_an_experiment_says_where_it_comes_from_and_how_to_run_it(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0] == "# @package _global_"  # hydra looks for it in the first line only
    header = []
    for line in lines[1:]:
        if not line.startswith("#"):
            break
        header.append(line)
    said = "\n".join(header)
    assert re.search(r"^# source: \S", said, re.IGNORECASE | re.MULTILINE)
    assert re.search(rf"^# command: .*experiment={path.stem}\b", said, re.IGNORECASE | re.MULTILINE)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=named)
def test_an_experiment_composes_and_may_be_built(path: Path) -> None:
    settings = compose.plain(compose.compose([f"experiment={path.stem}"]))
    assert settings["name"] == path.stem
    assert settings["source"].strip()
    build.check_flow(settings["flow"])
    for row in check_rows(settings["expected"]):
        assert row["source"]


@pytest.mark.parametrize("path", [path for path in FILES if path.parent != compose.CONF], ids=named)
def test_a_file_names_only_what_it_may(path: Path) -> None:
    content = yaml.safe_load(path.read_text()) or {}
    for target in targets(content):
        build.resolve(target)
    # Launchers, sweepers and logging are for the command line: inside a swept experiment they would have no effect.
    assert "hydra" not in content
    assert not [entry for entry in content.get("defaults", []) if "hydra/" in str(entry)]


def test_the_default_experiment_is_the_one_that_is_promised() -> None:
    assert compose.compose([]).name == "seed_allocation"


def test_the_root_file_holds_exactly_the_keys_of_the_schema() -> None:
    content = yaml.safe_load((compose.CONF / "run.yaml").read_text())
    assert list(content) == ["defaults", *schema.Run.__dataclass_fields__, "hydra"]
    assert list(content["data"]) == list(schema.Data.__dataclass_fields__)
    defaults = content["defaults"]
    assert defaults.index("_self_") < min(index for index, entry in enumerate(defaults) if isinstance(entry, dict))


def test_folders_of_a_sweep_leave_out_what_is_neutral() -> None:
    content = yaml.safe_load((compose.CONF / "run.yaml").read_text())
    assert tuple(content["hydra"]["job"]["config"]["override_dirname"]["exclude_keys"]) == schema.NEUTRAL


def test_these_tests_would_notice(tmp_path: Path) -> None:
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "bad.yaml").write_text("# @package _global_\nname: bad\nsource: x\ngroup: decisions\nflow: {_target_: os.system, command: 'true'}\n")
    settings = compose.plain(compose.compose(["experiment=bad"], more=tmp_path))
    with pytest.raises(ConfigError, match="must lie in one of"):
        build.check_flow(settings["flow"])
    assert list(targets([{"a": {"_target_": "x", "b": [{"_target_": "y"}]}}])) == ["x", "y"]
