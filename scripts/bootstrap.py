"""Set-up with nothing but Python: make the environment, install dpsc into it, and leave a stamp so that the next call is instant.

    python3 scripts/bootstrap.py [--dry-run]

DPSC_VENV names the environment's folder (default .venv in the checkout), DPSC_EXTRAS the extras of pyproject.toml (default test).

The stamp lies in the environment. It is written first as "unfinished" and last as the hash of all that decides what is installed, so an
interrupted run is seen and started over, a changed constraint is installed on top, and an environment that is up to date costs one hash.
This file must parse under Python 3.6, or an old Python could not print why it is refused.
"""

import argparse
import contextlib
import hashlib
import os
import re
import sys

FLOOR = (3, 11)
STAMP = "dpsc-stamp"
UNFINISHED = "unfinished"
# pip and Python settings of the caller that would lead an installation away from the environment.
STRAYING = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON", "PIP_NO_DEPS", "PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE")
NO_ENSUREPIP = (
    "this Python has no {}. On Debian and Ubuntu it is a package of its own: apt install python3-venv "
    "(or python3.11-venv for that version). Otherwise install a Python from python.org, or put uv on PATH."
)
OFFLINE = (
    "the packages could not be installed (exit code {}); the lines above say why. If there was no connection, check the network, "
    "HTTPS_PROXY and PIP_INDEX_URL, and run the same command again: downloads that were complete are used again."
)


class SetupError(Exception):
    """Set-up cannot go on; the text is for the person at the keyboard."""


def refusal(version):
    """One line for a Python that is too old, None for one that will do."""
    if tuple(version[:2]) >= FLOOR:
        return None
    return "dpsc needs Python >= %d.%d, this is %d.%d: name a newer one, as in `make setup PYTHON=python3.11`." % (FLOOR + tuple(version[:2]))  # noqa: UP031


def python_of(venv):
    """The environment's interpreter."""
    return os.path.join(venv, "Scripts", "python.exe") if os.name == "nt" else os.path.join(venv, "bin", "python")


def digest(root, venv, extras):
    """Hash of everything that decides what the environment holds; its own place too, because an environment cannot be moved."""
    total = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        with open(os.path.join(root, name), "rb") as file:
            total.update(file.read() + b"\0")
    total.update("\0".join([extras, sys.version, root, venv]).encode())
    return total.hexdigest()


def read_stamp(venv):
    """(digest or "unfinished", version of the Python that made it), or None where there is no stamp."""
    try:
        with open(os.path.join(venv, STAMP), encoding="utf-8") as file:
            first, _, rest = file.read().partition("\n")
        return first, rest.rstrip("\n")
    except (OSError, UnicodeDecodeError):
        return None


def write_stamp(venv, state):
    """Replace the stamp in one step."""
    path = os.path.join(venv, STAMP)
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(state + "\n" + sys.version + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".new", path)


@contextlib.contextmanager
def alone(root):
    """Let one set-up of this checkout run at a time; a killed one leaves no lock behind."""
    with open(os.path.join(root, "pyproject.toml"), "rb") as file:
        try:
            import fcntl
        except ImportError:  # Windows: no lock, as before
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def ready(root, venv, extras):
    """Whether the environment is complete and up to date."""
    stamp = read_stamp(venv)
    return stamp is not None and stamp[0] == digest(root, venv, extras) and os.path.exists(python_of(venv))


def has_module(name):
    """Whether this Python has a module, without importing it."""
    import importlib.util

    return importlib.util.find_spec(name) is not None


def clean_environment(environ):
    """The caller's variables without those that would install somewhere else."""
    return dict({key: value for key, value in environ.items() if key not in STRAYING}, PIP_USER="0")


def empty(venv):
    """Remove everything but the stamp, which says that the folder is ours even if this is interrupted."""
    import shutil

    for entry in os.scandir(venv):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        elif entry.name != STAMP:
            os.remove(entry.path)


def set_up(root, venv, extras, call, which, say, dry_run=False):
    """Bring the environment up to date.

    `call(command, cwd, env)` runs a command and returns its exit code, `which(name)` finds a program on PATH, `say(text)` tells the user.
    """
    stamp = read_stamp(venv)
    fresh = stamp is None or stamp[0] == UNFINISHED or stamp[1] != sys.version or not os.path.exists(python_of(venv))
    if fresh and stamp is None and os.path.isdir(venv) and os.listdir(venv):
        raise SetupError(f"{venv} exists and was not made by this script: remove it, or name another place with DPSC_VENV.")
    uv = which("uv")
    if not has_module("venv"):
        raise SetupError(NO_ENSUREPIP.format("venv"))
    if not uv and not has_module("ensurepip"):
        raise SetupError(NO_ENSUREPIP.format("ensurepip"))

    env = clean_environment(os.environ)
    python = python_of(venv)
    what = ["-c", "constraints.txt", "-e", f".[{extras}]" if extras else "."]
    quiet = [] if sys.stderr.isatty() else ["-q"]
    # Compiling every module of every package doubles the time, and most are never imported: leave it to the first import, unless that
    # may not write what it compiled.
    compiled = ([], ["--compile-bytecode"]) if sys.dont_write_bytecode else (["--no-compile"], [])
    make = [sys.executable, "-I", "-m", "venv", "--without-pip", venv]
    with_uv = [uv, "pip", "install", *quiet, *compiled[1], "--python", python, *what]
    bring_pip = [python, "-I", "-m", "ensurepip", "--default-pip"]
    with_pip = [python, "-I", "-m", "pip", "install", *quiet, *compiled[0], "--disable-pip-version-check", *what]

    if dry_run:
        for command in ([make] if fresh else []) + ([with_uv] if uv else [bring_pip, with_pip]):
            say(" ".join(command))
        return

    if stamp is not None and fresh:
        say(f"{venv} is unfinished or belongs to another Python: making it again.")
    say(f"installing dpsc{f'[{extras}]' if extras else ''} into {venv} with {'uv' if uv else 'pip'} (about a minute, longer where torch is downloaded)")
    os.makedirs(venv, exist_ok=True)
    write_stamp(venv, UNFINISHED)
    if fresh:
        empty(venv)
    if fresh and call(make, cwd=root, env=env):
        raise SetupError(f"{venv} could not be made; the lines above say why.")
    if uv and call(with_uv, cwd=root, env=env):
        say("uv could not install this (it ignores some of pip's settings): trying pip.")
        uv = None
        if not has_module("ensurepip"):
            raise SetupError(NO_ENSUREPIP.format("ensurepip"))
    if not uv:
        if call(bring_pip, cwd=root, env=env):
            raise SetupError(f"pip could not be put into {venv}; the lines above say why.")
        code = call(with_pip, cwd=root, env=env)
        if code:
            raise SetupError(OFFLINE.format(code))
    write_stamp(venv, digest(root, venv, extras))


def run(command, cwd, env):
    """Run a command in the foreground; its output goes to stderr, the chatter of ensurepip nowhere."""
    import subprocess

    return subprocess.call(command, cwd=cwd, env=env, stdout=subprocess.DEVNULL if "ensurepip" in command else sys.stderr)


def say(text):
    """Tell the user; stdout stays free for what `make run` prints."""
    print(f"dpsc set-up: {text}", file=sys.stderr, flush=True)


def main(arguments=None):
    """Exit code 0: the environment is ready; 1: it could not be made; 2: wrong Python or wrong setting; 130: interrupted."""
    too_old = refusal(sys.version_info)
    if too_old:
        print(too_old, file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(description="Make the environment of dpsc, or do nothing if it is up to date.")
    parser.add_argument("--dry-run", action="store_true", help="print the commands that would run, and run none")
    options = parser.parse_args(arguments)

    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    venv = os.path.realpath(os.path.join(root, os.path.expanduser(os.environ.get("DPSC_VENV") or ".venv")))
    extras = ",".join(sorted({part.strip() for part in os.environ.get("DPSC_EXTRAS", "test").split(",")} - {""}))
    if not re.fullmatch(r"[A-Za-z0-9._,-]*", extras):
        say(f"DPSC_EXTRAS must be names separated by commas, got {extras!r}.")
        return 2
    try:
        if ready(root, venv, extras):
            return 0
        import shutil

        with contextlib.nullcontext() if options.dry_run else alone(root):
            if not ready(root, venv, extras):  # another set-up may have finished while this one waited
                set_up(root, venv, extras, call=run, which=shutil.which, say=say, dry_run=options.dry_run)
    except SetupError as error:
        say(str(error))
        return 1
    except OSError as error:
        say(f"stopped: {error}. Nothing outside {venv} was changed; run the same command again.")
        return 1
    except KeyboardInterrupt:
        say("interrupted; the next run starts over.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
