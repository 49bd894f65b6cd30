"""What a configuration may call: components of the allowed packages, and nothing else by any path."""

import functools
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dpsc.errors import ConfigError, ShapeError
from experiments import build
from tests.experiments import tiny_flow

TINY = "tests.experiments.tiny_flow"
HERE = (*build.ALLOWED, TINY)

# Each must be refused before anything is called.
ATTACKS: dict[str, Any] = {
    "load": {"_target_": "torch.load", "f": "x", "weights_only": False},
    "shell": {"_target_": "os.system", "command": "true"},
    "eval": {"_target_": "builtins.eval", "_args_": ["1"]},
    "exec": {"_target_": "builtins.exec", "_args_": ["1"]},
    "unpickling a table": {"_target_": "pandas.read_pickle", "filepath_or_buffer": "x"},
    "unpickling": {"_target_": "pickle.loads", "_args_": ["x"]},
    "process": {"_target_": "subprocess.run", "args": ["true"]},
    "hub": {"_target_": "torch.hub.load", "repo_or_dir": "x"},
    "library": {"_target_": "torch.ops.load_library", "path": "x"},
    "jit": {"_target_": "torch.jit.load", "f": "x"},
    "hydra": {"_target_": "hydra.utils.instantiate", "config": {}},
    "hydra by method": {"_target_": "hydra.utils.get_method", "path": "os.system"},
    "import": {"_target_": "importlib.import_module", "name": "antigravity"},
    "file": {"_target_": "pathlib.Path", "_args_": ["x"]},
    "re-export of a module": {"_target_": "dpsc.report.record.os.system", "command": "true"},
    "re-export of torch": {"_target_": "dpsc.checks.torch.load", "f": "x"},
    "re-export beside a permitted one": {"_target_": "dpsc.report.learned.torch.load", "f": "x"},
    "re-export of a process": {"_target_": "dpsc.report.record.subprocess.run", "args": ["true"]},
    "re-export of a class": {"_target_": "dpsc.report.record.Path", "_args_": ["x"]},
    "re-export of json": {"_target_": "dpsc.report.learned.json.loads", "s": "1"},
    "re-export by torch.nn": {"_target_": "torch.nn.modules.module.torch.load", "f": "x"},
    "re-export by torch.nn of functools": {"_target_": "torch.nn.modules.module.functools.partial", "_args_": ["x"]},
    "re-export by torch.nn of warnings": {"_target_": "torch.nn.functional.warnings.warn", "message": "x"},
    "re-export by torch.nn of import": {"_target_": "torch.nn.functional.importlib.import_module", "name": "os"},
    "re-export by an experiment": {"_target_": "experiments.job.Path", "_args_": ["x"]},
    "this very wrapper": {"_target_": "experiments.build.build", "config": {}, "allowed": ["os"]},
    "its resolver": {"_target_": "experiments.build.resolve", "target": "os.system", "allowed": ["os"]},
    "its checks": {"_target_": "experiments.build.check", "config": {}, "allowed": ["os"]},
    "the entry": {"_target_": "experiments.run.main", "allowed": ["os"]},
    "the job": {"_target_": "experiments.job.job", "config": {}},
    "the composer": {"_target_": "experiments.compose.compose", "overrides": []},
    "a private attribute": {"_target_": "torch.nn.Linear.__init__.__globals__.get", "_args_": ["x"]},
    "a private class attribute": {"_target_": "dpsc.errors.DpscError.__subclasses__"},
    "a private module": {"_target_": "torch.nn._reduction.get_enum", "reduction": "mean"},
    "a lambda": {"_target_": f"{TINY}.NAMED_LAMBDA"},
    "a partial": {"_target_": f"{TINY}.PARTIAL"},
    "a constant": {"_target_": f"{TINY}.CONSTANT"},
    "a constant tuple": {"_target_": "dpsc.report.files.FORMULA.count", "_args_": ["="]},
    "a module": {"_target_": "dpsc.report"},
    "a like-named package": {"_target_": "dpsc_evil.run"},
    "a like-named module": {"_target_": "torch.nnx.Linear"},
    "a package alone": {"_target_": "dpsc"},
    "blanks": {"_target_": "torch.nn.Linear "},
    "two dots": {"_target_": "torch..nn.Linear"},
    "a path": {"_target_": "../torch.nn.Linear"},
    "look-alike letters": {"_target_": "dpsс.errors.DpscError"},  # noqa: RUF001 - the fourth letter is Cyrillic
    "an interpolation": {"_target_": "${oc.env:HOME}"},
    "no text": {"_target_": 7},
    "nothing": {"_target_": None},
    "empty": {"_target_": ""},
    "a list": {"_target_": ["os", "system"]},
    "a mapping": {"_target_": {"_target_": "os.system"}},
    "unresolved tree": {"_target_": "torch.nn.Sequential", "_recursive_": False},
    "other conversion": {"_target_": "torch.nn.Sequential", "_convert_": "none"},
    "a misspelt target": {"_traget_": "torch.nn.Sequential"},
    "arguments for nothing": {"_args_": [1]},
    "partial of nothing": {"_partial_": True},
    "partial in words": {"_target_": "torch.nn.Linear", "_partial_": "yes"},
    "arguments in words": {"_target_": "torch.nn.Linear", "_args_": "12"},
    "a key that is no name": {"_target_": "torch.nn.Sequential", 3: 4},
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
@pytest.mark.parametrize("place", ["argument", "list", "positional", "partial"])
def test_attacks_are_refused_wherever_they_hide(attack: dict[str, Any], place: str) -> None:
    hidden: dict[str, Any] = {
        "argument": {"_target_": f"{TINY}.Training", "epochs": attack},
        "list": {"_target_": f"{TINY}.Training", "epochs": [1, [{"deeper": attack}]]},
        "positional": {"_target_": "torch.nn.Sequential", "_args_": [attack]},
        "partial": {"_target_": "torch.optim.Adam", "_partial_": True, "betas": [attack]},
    }
    where = {"argument": r"flow\.epochs", "list": r"flow\.epochs\[1\]\[0\]\.deeper", "positional": r"flow\._args_\[0\]", "partial": r"flow\.betas\[0\]"}
    with pytest.raises(ConfigError, match=rf"^{where[place]}(\._target_)?[ :]"):
        build.build(hidden[place], allowed=HERE)


def test_a_refusal_names_target_and_allowed_packages() -> None:
    with pytest.raises(ConfigError, match=r"flow\._target_ must lie in one of dpsc, experiments, torch.nn, torch.optim, pyro.optim; got 'os.system'"):
        build.build({"_target_": "os.system", "command": "true"})
    with pytest.raises(ConfigError, match=r"'dpsc.checks.torch.load', which is defined in torch.serialization"):
        build.build({"_target_": "dpsc.checks.torch.load", "f": "x"})
    with pytest.raises(ConfigError, match=r"'dpsc.report.record.os.system', which leads through the module os"):
        build.build({"_target_": "dpsc.report.record.os.system", "command": "x"})


def test_nothing_ran(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save(Payload(), tmp_path / "weights.pt")
    for config in (
        {"_target_": "os.system", "command": f"touch {tmp_path / 'ran'}"},
        {"_target_": "dpsc.report.learned.torch.load", "f": str(tmp_path / "weights.pt"), "weights_only": False},
        {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "dpsc.report.record.os.system", "command": f"touch {tmp_path / 'ran'}"}]},
    ):
        with pytest.raises(ConfigError):
            build.build(config)
    assert not (tmp_path / "ran").exists()


def test_modules_outside_are_not_even_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imported_by_mistake.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\ndef run(): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="must lie in one of"):
        build.build({"_target_": "imported_by_mistake.run"})
    assert not (tmp_path / "ran").exists()
    build.build({"_target_": "imported_by_mistake.run"}, allowed=("imported_by_mistake",))
    assert (tmp_path / "ran").exists()


def test_components_are_built_with_their_components() -> None:
    config = {
        "_target_": f"{TINY}.Training",
        "epochs": [{"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 1}, {"plain": [1, 2]}],
        "rate": {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.5},
    }
    built = build.build(config, allowed=HERE)
    assert isinstance(built, tiny_flow.Training)
    linear, plain = built.epochs  # type: ignore[misc]
    assert isinstance(linear, nn.Linear)
    assert plain == {"plain": [1, 2]}
    assert type(plain) is dict
    assert type(plain["plain"]) is list
    optimizer = built.rate([nn.Parameter(torch.ones(1))])  # type: ignore[operator]
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_target_": "torch.nn.Liner"}, r"torch.nn has no 'Liner' \(did you mean Linear"),
        ({"_target_": "dpsc.repot.Outcome"}, r"dpsc has no 'repot' \(did you mean report"),
        ({"_target_": "dpcs.report.Outcome"}, r"must lie in one of .*; got 'dpcs.report.Outcome' \(did you mean dpsc\?\)"),
        ({"_target_": f"{TINY}.Training", "epocs": 3}, rf"flow.epocs is no argument of {TINY}.Training, which takes epochs, rate \(did you mean epochs\?\)"),
        ({"_target_": f"{TINY}.Layer"}, rf"flow must give budget to {TINY}.Layer, got nothing"),
        ({"_target_": f"{TINY}.Layer", "budget": 13}, "flow cannot be built: ZeroDivisionError"),
        ({"_target_": "torch.nn.Linear", "in_features": "two", "out_features": 1}, "flow cannot be built: TypeError"),
    ],
)
def test_mistakes_name_the_key_and_what_is_near(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build.build(config, allowed=HERE)


def test_an_error_of_a_component_keeps_its_kind_and_gets_its_key() -> None:
    config = {"_target_": f"{TINY}.run", "training": {"_target_": f"{TINY}.Training"}, "layer": {"_target_": f"{TINY}.Layer", "budget": -1}}
    with pytest.raises(ShapeError, match=r"^flow.layer: budget must be positive, got -1"):
        build.flow(config, allowed=HERE)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "needs_extra"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "inner.py").write_text("import no_such_package_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="needs the package no_such_package_anywhere, which is not installed"):
        build.build({"_target_": "needs_extra.inner.run"}, allowed=("needs_extra",))


def test_a_flow_is_a_function_that_still_needs_its_context() -> None:
    flow = build.flow({"_target_": f"{TINY}.run", "training": {"_target_": f"{TINY}.Training", "epochs": 2}}, allowed=HERE)
    assert isinstance(flow, functools.partial)
    assert flow.func is tiny_flow.run
    assert flow.keywords == {"training": tiny_flow.Training(epochs=2)}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, r"flow must have a _target_, the function experiments.<flow>.run"),
        ({"_target_": f"{TINY}.Training"}, "flow._target_ must be a function that takes context"),
        ({"_target_": f"{TINY}.run"}, rf"flow must give training to {TINY}.run, got context"),
        ({"_target_": f"{TINY}.run", "context": 1, "training": {}}, "flow takes its components by name, and context from the run; got context"),
        ({"_target_": f"{TINY}.run", "_args_": [1]}, "got _args_"),
        ({"_target_": f"{TINY}.run", "training": {}, "fial": "x"}, r"flow.fial is no argument of .* \(did you mean fail\?\)"),
    ],
)
def test_flows_that_are_none(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build.flow(config, allowed=HERE)
