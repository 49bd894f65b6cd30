"""scripts/bootstrap.py without a network: commands are recorded, not run."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import bootstrap

SCRIPT = Path(bootstrap.__file__)


class Recorder:
    """Stands in for the shell: notes commands, makes what `venv` would make, and fails where told."""

    def __init__(self, failing: str | None = None, interrupted: str | None = None) -> None:
        self.commands: list[list[str]] = []
        self.environments: list[dict[str, str]] = []
        self.failing, self.interrupted = failing, interrupted

    def __call__(self, command: list[str], cwd: str, env: dict[str, str]) -> int:
        self.commands.append(command)
        self.environments.append(env)
        if self.interrupted in command:
            raise KeyboardInterrupt
        if "--without-pip" in command:
            python = Path(bootstrap.python_of(command[-1]))
            python.parent.mkdir(parents=True)
            python.touch()
        return int(self.failing in command)

    @property
    def verbs(self) -> list[str]:
        """venv, ensurepip, uv, pip: what was called, in short."""
        return [next(verb for verb in ("venv", "ensurepip", "uv", "pip") if verb in command) for command in self.commands]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "constraints.txt").write_text("a==1\n")
    return tmp_path


def set_up(checkout: Path, recorder: Recorder, *, uv: bool = False, extras: str = "test") -> list[str]:
    """Run the set-up if it is needed; returns what the user was told."""
    said: list[str] = []
    root, venv = str(checkout), str(checkout / "venv")
    if not bootstrap.ready(root, venv, extras):
        bootstrap.set_up(root, venv, extras, call=recorder, which=lambda name: name if uv else None, say=said.append)
    return said


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 6, 15), (3, 10, 0), (3, 11, 0), (3, 12, 1), (4, 0, 0)])
def test_version_refusal_is_one_line(version: tuple[int, ...]) -> None:
    said = bootstrap.refusal(version)
    if version >= (3, 11):
        assert said is None
    else:
        assert said.count("\n") == 0
        assert f"Python >= 3.11, this is {version[0]}.{version[1]}" in said


def test_old_python_gets_the_refusal_and_exit_code_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    assert bootstrap.main([]) == 2
    assert capsys.readouterr().err == bootstrap.refusal((3, 9)) + "\n"


def test_parses_under_python_3_6() -> None:
    ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 6))


def test_imports_nothing_heavy() -> None:
    code = f"import sys, runpy; runpy.run_path({str(SCRIPT)!r}, run_name='probe'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"subprocess", "shutil", "venv", "ensurepip", "urllib.request", "torch"} & set(loaded)


def test_cold_with_pip(checkout: Path) -> None:
    recorder = Recorder()
    said = set_up(checkout, recorder)
    assert recorder.verbs == ["venv", "ensurepip", "pip"]
    assert recorder.commands[-1][-4:] == ["-c", "constraints.txt", "-e", ".[test]"]
    assert all(command[0] in (sys.executable, bootstrap.python_of(str(checkout / "venv"))) for command in recorder.commands)
    assert len(said) == 1
    assert "with pip" in said[0]


def test_cold_with_uv(checkout: Path) -> None:
    recorder = Recorder()
    set_up(checkout, recorder, uv=True)
    assert recorder.verbs == ["venv", "uv"]
    assert bootstrap.python_of(str(checkout / "venv")) in recorder.commands[-1]


def test_falls_back_to_pip_with_one_line(checkout: Path) -> None:
    recorder = Recorder(failing="uv")
    said = set_up(checkout, recorder, uv=True)
    assert recorder.verbs == ["venv", "uv", "ensurepip", "pip"]
    assert sum("trying pip" in line for line in said) == 1
    assert bootstrap.ready(str(checkout), str(checkout / "venv"), "test")


def test_warm_does_nothing(checkout: Path) -> None:
    set_up(checkout, Recorder())
    before = {path: path.stat().st_mtime_ns for path in checkout.rglob("*")}
    recorder = Recorder()
    assert set_up(checkout, recorder) == []
    assert recorder.commands == []
    assert {path: path.stat().st_mtime_ns for path in checkout.rglob("*")} == before


def test_warm_command_is_silent_and_starts_nothing(checkout: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    set_up(checkout, Recorder())
    script = checkout / "scripts" / "bootstrap.py"
    monkeypatch.setattr(bootstrap, "__file__", str(script))
    monkeypatch.setenv("DPSC_VENV", "venv")
    monkeypatch.delenv("DPSC_EXTRAS", raising=False)
    monkeypatch.setattr(bootstrap, "run", Recorder(failing="-m"))
    assert bootstrap.main([]) == 0
    assert capfd.readouterr() == ("", "")
    assert bootstrap.run.commands == []


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_change_is_installed_on_top(checkout: Path, changed: str) -> None:
    set_up(checkout, Recorder())
    with (checkout / changed).open("a") as file:
        file.write("# more\n")
    recorder = Recorder()
    set_up(checkout, recorder)
    assert recorder.verbs == ["ensurepip", "pip"]
    assert set_up(checkout, again := Recorder()) == []
    assert again.commands == []


def test_other_extras_are_installed_on_top(checkout: Path) -> None:
    set_up(checkout, Recorder())
    recorder = Recorder()
    set_up(checkout, recorder, extras="")
    assert recorder.commands[-1][-1] == "."


def test_other_python_makes_the_environment_again(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(checkout, Recorder())
    monkeypatch.setattr(sys, "version", "3.99.0 (some other build)")
    recorder = Recorder()
    set_up(checkout, recorder)
    assert recorder.verbs[0] == "venv"


def test_lost_interpreter_makes_the_environment_again(checkout: Path) -> None:
    set_up(checkout, Recorder())
    os.remove(bootstrap.python_of(str(checkout / "venv")))
    recorder = Recorder()
    set_up(checkout, recorder)
    assert recorder.verbs[0] == "venv"


@pytest.mark.parametrize("at", ["venv", "ensurepip", "pip"])
def test_interrupted_run_is_repaired_from_scratch(checkout: Path, at: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        set_up(checkout, Recorder(interrupted=at))
    leftover = checkout / "venv" / "lib" / "half-a-package"
    leftover.mkdir(parents=True)
    recorder = Recorder()
    said = set_up(checkout, recorder)
    assert recorder.verbs == ["venv", "ensurepip", "pip"]
    assert "unfinished" in said[0]
    assert not leftover.exists()
    assert bootstrap.ready(str(checkout), str(checkout / "venv"), "test")


def test_failed_installation_is_not_stamped_and_says_what_to_do(checkout: Path) -> None:
    recorder = Recorder(failing="pip")
    with pytest.raises(bootstrap.SetupError, match="could not be installed.*check the network"):
        set_up(checkout, recorder)
    assert bootstrap.read_stamp(str(checkout / "venv"))[0] == bootstrap.UNFINISHED


def test_folder_of_somebody_else_is_left_alone(checkout: Path) -> None:
    (checkout / "venv").mkdir()
    (checkout / "venv" / "thesis.tex").write_text("precious")
    recorder = Recorder()
    with pytest.raises(bootstrap.SetupError, match="was not made by this script"):
        set_up(checkout, recorder)
    assert recorder.commands == []
    assert (checkout / "venv" / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize("lacking", ["venv", "ensurepip"])
def test_missing_module_of_python_is_explained(checkout: Path, lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "has_module", lambda name: name != lacking)
    with pytest.raises(bootstrap.SetupError, match=f"no {lacking}.*python3-venv"):
        set_up(checkout, Recorder())
    assert not (checkout / "venv").exists()


def test_uv_needs_no_ensurepip(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "has_module", lambda name: name != "ensurepip")
    recorder = Recorder()
    set_up(checkout, recorder, uv=True)
    assert recorder.verbs == ["venv", "uv"]


def test_installs_nowhere_else(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_TARGET", "/somewhere")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("PIP_USER", "1")
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    recorder = Recorder()
    set_up(checkout, recorder)
    for env in recorder.environments:
        assert "PIP_TARGET" not in env
        assert "PYTHONPATH" not in env
        assert env["PIP_USER"] == "0"
        assert env["PIP_INDEX_URL"] == "https://mirror.example/simple"


def test_wrong_extras_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DPSC_EXTRAS", "test] evil")
    assert bootstrap.main(["--dry-run"]) == 2
    assert "DPSC_EXTRAS must be names" in capsys.readouterr().err


def test_dry_run_changes_nothing(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--dry-run"],
        env={**os.environ, "DPSC_VENV": str(venv), "DPSC_EXTRAS": "test"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "-m venv" in done.stderr
    assert ".[test]" in done.stderr
    assert not venv.exists()
