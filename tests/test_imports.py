"""Who may import whom, what an import costs, and that nothing runs code from a file."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "dpsc").rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in FILES]
each_file = pytest.mark.parametrize("path", FILES, ids=IDS)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(module: ast.Module) -> Iterator[str]:
    """Dotted names of everything that a file imports, wherever in the file; `from a import b` is a and a.b."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def dotted(node: ast.expr) -> str:
    """a.b.c of an expression, as far as it is one."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def test_the_files_are_there() -> None:
    assert len(FILES) > 20
    assert ROOT / "dpsc" / "storage.py" in FILES


# ------------------------------------------------------------------------------------------------------ who imports whom


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(folder), "PYTHONWARNINGS": ""})


def test_rooms_import_downwards_only() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " 0 broken" in result.stdout


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("decision/simplex.py", "from dpsc.objective import regret", "dpsc.decision is not allowed to import dpsc.objective"),
        ("checks.py", "from dpsc.types import Solution", "dpsc.checks is not allowed to import dpsc.types"),
        ("report/page.py", "import hydra", "dpsc is not allowed to import hydra"),
    ],
)
def test_the_contracts_notice_a_breach(file: str, line: str, broken: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "dpsc", tmp_path / "dpsc", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "dpsc" / file).open("a") as target:
        target.write(f"\n{line}\n")
    result = lint_imports(tmp_path)
    assert result.returncode != 0
    assert broken in " ".join(result.stdout.split())


@each_file
def test_dpsc_knows_neither_hydra_nor_what_stands_around_it(path: Path) -> None:
    outside = {"hydra", "omegaconf", "experiments", "scripts", "tests"}
    assert not [name for name in imported(tree(path)) if name.split(".")[0] in outside]


def test_only_the_convex_layers_know_cvxpylayers() -> None:
    users = [path for path in FILES if any(name.split(".")[0] == "cvxpylayers" for name in imported(tree(path)))]
    assert users
    assert not [path for path in users if path.relative_to(ROOT / "dpsc" / "decision").with_suffix("").parts[0] != "convex"]


@pytest.mark.parametrize(
    "statement", ["import dpsc", "import dpsc.decision", "import dpsc.decision, dpsc.objective, dpsc.training, dpsc.instances, dpsc.noise"]
)
def test_an_import_brings_nothing_heavy_along(statement: str) -> None:
    program = f"import sys\n{statement}\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    loaded = set(result.stdout.split())
    assert "dpsc" in loaded
    assert not loaded & {"cvxpy", "cvxpylayers", "diffcp", "pyro", "pandas", "matplotlib", "hydra", "omegaconf", "scipy", "experiments"}


# ------------------------------------------------------------------------------------------------- no code out of a file

UNSAFE_MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
UNSAFE_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "torch.load",
    "torch.jit.load",
    "torch.hub.load",
    "numpy.fromfile",
    "pandas.read_pickle",
    "pd.read_pickle",
    "yaml.load",
    "os.system",
}


def unsafe(module: ast.Module) -> list[str]:
    """What could run code from a file."""
    found = [name for name in imported(module) if name.split(".")[0] in UNSAFE_MODULES or name in UNSAFE_CALLS]
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and dotted(node.func) in UNSAFE_CALLS:
            found.append(dotted(node.func))
        if isinstance(node, ast.keyword) and (
            (node.arg == "allow_pickle" and not is_constant(node.value, False)) or (node.arg == "weights_only" and not is_constant(node.value, True))
        ):
            found.append(str(node.arg))
    return found


def is_constant(node: ast.expr, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "torch.load(f)",
        "from torch import load",
        "eval('1')",
        "np.load(f, allow_pickle=True)",
        "x(weights_only=False)",
        "def f():\n    import dill",
    ],
)
def test_the_scan_finds_what_it_looks_for(code: str) -> None:
    assert unsafe(ast.parse(code))


@each_file
def test_nothing_runs_code_from_a_file(path: Path) -> None:
    found = unsafe(tree(path))
    assert found == (["torch.load"] if path == ROOT / "dpsc" / "storage.py" else [])


def test_the_one_torch_load_reads_weights_only() -> None:
    calls = [node for node in ast.walk(tree(ROOT / "dpsc" / "storage.py")) if isinstance(node, ast.Call) and dotted(node.func) == "torch.load"]
    assert len(calls) == 1
    assert any(keyword.arg == "weights_only" and is_constant(keyword.value, True) for keyword in calls[0].keywords)


# ----------------------------------------------------------------------------------------------------------- house style


def public(module: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Public functions, classes and their public methods."""
    for node in module.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, (ast.FunctionDef, ast.ClassDef)) and not inner.name.startswith("_"):
                        yield f"{node.name}.{inner.name}", inner


@each_file
def test_everything_public_is_documented(path: Path) -> None:
    module = tree(path)
    assert ast.get_docstring(module), "the module has no docstring"
    derived = {  # the parts of an autograd function are documented by torch
        f"{node.name}.{part}"
        for node in module.body
        if isinstance(node, ast.ClassDef) and any(dotted(b).endswith("autograd.Function") for b in node.bases)
        for part in ("forward", "setup_context", "backward", "vmap")
    }
    assert not [name for name, node in public(module) if name not in derived and not ast.get_docstring(node)]  # type: ignore[arg-type]


@each_file
def test_no_file_is_over_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
