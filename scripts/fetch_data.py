"""Download a public data set from where it is published, check it, and put it where dpsc looks for it.

    python scripts/fetch_data.py                    list the data sets
    python scripts/fetch_data.py NAME [--to ./data] [--from ADDRESS] [--force]

A file appears whole and with the published checksum, or not at all. Data sets whose terms forbid passing them on are refused (exit code 2)
with the way to obtain them. `--from` names another place that is laid out like a data folder, `ADDRESS/NAME/FILE`; file:// will do.
Exit codes: 0 everything is there, 1 something could not be had, 2 refused or not understood, 130 interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import signal
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare Python will do: nothing below needs an installed package

from dpsc.data import folder
from dpsc.data.catalogue import CATALOGUE, DataFile, DataSet

TIMEOUT_S = 30
CHUNK = 1 << 16


class FetchError(Exception):
    """A file could not be had; the text says which and why."""


def address_of(dataset: DataSet, file: DataFile, base: str | None) -> str:
    """Where a file is downloaded from."""
    if base is not None:
        return f"{base.rstrip('/')}/{dataset.name}/{urllib.parse.quote(file.name)}"
    if file.address is None:
        raise FetchError(f"{file.name} is published nowhere. {dataset.how_to_get}")
    return file.address


def download(address: str, target: Path, file: DataFile) -> None:
    """Fetch one file to `target` in one step: a temporary file beside it, checked, flushed to disk, then renamed.

    Raises: FetchError. Whatever happens, no part of a file stays behind.
    """
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        got, total = 0, hashlib.sha256()
        with os.fdopen(handle, "wb") as out:
            try:
                with urllib.request.urlopen(address, timeout=TIMEOUT_S) as source:
                    while chunk := source.read(CHUNK):
                        got += len(chunk)
                        if file.size is not None and got > file.size:
                            raise FetchError(f"{address}: expected {file.size} bytes, got more")
                        total.update(chunk)
                        out.write(chunk)
            except urllib.error.HTTPError as error:
                raise FetchError(f"{address}: the server answered {error.code} {error.reason}") from error
            except urllib.error.URLError as error:
                raise FetchError(f"{address}: {error.reason}; is there a connection (HTTPS_PROXY)?") from error
            except http.client.IncompleteRead as error:
                raise FetchError(f"{address}: expected {file.size} bytes, got {got + len(error.partial)}; the connection broke off") from error
            except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
                raise FetchError(f"{address}: {error or type(error).__name__} after {got} bytes") from error
            out.flush()
            os.fsync(out.fileno())
        if file.size is not None and got != file.size:
            raise FetchError(f"{address}: expected {file.size} bytes, got {got}; the file is cut short")
        if file.sha256 is not None and total.hexdigest() != file.sha256:
            raise FetchError(f"{address}: expected sha256 {file.sha256}, got {total.hexdigest()}; the file is not the published one")
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def fetch(dataset: DataSet, to: Path, *, base: str | None = None, force: bool = False) -> None:
    """Bring every file of a data set into `<to>/<dataset>`; keep the ones that are there and right.

    Raises: FetchError for a file that could not be had, or that is there, wrong, and not to be replaced.
    """
    place = to / dataset.name
    missing, wrong = [], []
    for file in dataset.files:
        target = place / file.name
        problem = folder.difference(target, file) if target.is_file() else None
        if problem:
            wrong.append(f"{target}: {problem}")
        if problem or not target.is_file():
            missing.append(file)
    if wrong and not force:
        raise FetchError("\n".join([*wrong, "kept as it is; --force replaces what is not the published file"]))
    if not missing:
        print(f"{place}: complete, nothing to do")
        return

    print(f"{dataset.name}: {dataset.title}\n  source:  {dataset.source}\n  licence: {dataset.licence}", flush=True)
    made = [part for part in (place, *place.parents) if not part.exists()]
    place.mkdir(parents=True, exist_ok=True)
    try:
        for file in missing:
            address = address_of(dataset, file, base)
            print(f"  {address}", flush=True)
            download(address, place / file.name, file)
    finally:
        for part in made:  # innermost first; only what is still empty
            if not any(part.iterdir()):
                part.rmdir()
    print(f"{place}: complete, {len(missing)} of {len(dataset.files)} files downloaded, checksums right")


def listing() -> str:
    """All data sets, and how each is obtained."""
    return "\n".join(f"{entry.name:16} {entry.title}\n{'':16} {entry.licence}\n{'':16} {entry.how_to_get}" for entry in CATALOGUE.values())


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(description="Download a public data set of dpsc and check it.")
    parser.add_argument("name", nargs="?", help="a data set; without it, a list of them")
    parser.add_argument("--to", type=Path, default=Path("data"), help="data folder (default ./data)")
    parser.add_argument("--from", dest="base", metavar="ADDRESS", help="another place, laid out as ADDRESS/NAME/FILE (https://, http:// or file://)")
    parser.add_argument("--force", action="store_true", help="replace files that are not the published ones")
    options = parser.parse_args(arguments)

    if options.name is None:
        print(listing())
        return 0
    if options.name not in CATALOGUE:
        print(f"there is no data set {options.name!r}, but {', '.join(CATALOGUE)}", file=sys.stderr)
        return 2
    if options.base is not None and urllib.parse.urlsplit(options.base).scheme not in ("https", "http", "file"):
        print(f"--from must start with https://, http:// or file://, got {options.base!r}", file=sys.stderr)
        return 2
    dataset = CATALOGUE[options.name]
    if not dataset.redistributable:
        print(f"{dataset.name} is not downloaded by dpsc.\n  terms: {dataset.licence}\n  how to get it: {dataset.how_to_get}", file=sys.stderr)
        return 2
    try:
        fetch(dataset, options.to, base=options.base, force=options.force)
    except FetchError as error:
        print(f"could not fetch {dataset.name}:\n{error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"could not fetch {dataset.name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing half-written was left", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a killed download cleans up as an interrupted one does
    sys.exit(main())
