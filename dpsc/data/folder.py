"""Where data files lie, and whether they are the published ones."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from dpsc.data import catalogue
from dpsc.errors import DataError, DataNotFoundError


def find(dataset_name: str, file_name: str | None = None, *, root: str | os.PathLike[str] | None = None) -> Path:
    """The path of a data file, `<root>/<dataset>/<file>`.

    Args:
        dataset_name: a name in the catalogue.
        file_name: one of its files; None for the folder of the data set, with every file in it.
        root: the only folder to look in; None for the one that `$DPSC_DATA` names, then `./data`.
    Returns: an existing path.
    Raises: InputError for a name that is not in the catalogue; DataNotFoundError, which says every place that was looked at and how to get the data.
    """
    dataset = catalogue.get(dataset_name)
    wanted = dataset.files if file_name is None else (dataset.file(file_name),)
    folders = [place / dataset_name for place in places(root)]
    for folder in folders:
        if all((folder / file.name).is_file() for file in wanted):
            return folder if file_name is None else folder / file_name
    looked = "; ".join(f"{folder} ({_lack(folder, wanted)})" for folder in folders)
    what = f"the file {wanted[0].name}" if len(wanted) == 1 else f"all {len(wanted)} files in one folder"
    raise DataNotFoundError(f"data set {dataset_name}: could not find {what}; looked in {looked}. How to get it: {dataset.how_to_get}")


def verify(path: str | os.PathLike[str], dataset: str) -> None:
    """Check that a file is the published one, byte for byte.

    Files that the catalogue lists without a checksum are conversions: they must exist, and their reader checks the content.

    Args:
        path: a file that is named as in the catalogue, or the folder of the data set for all of its files.
        dataset: the name of the data set.
    Raises: InputError for an unknown name; DataNotFoundError; DataError, which names the size or checksum expected and got.
    """
    entry = catalogue.get(dataset)
    path = Path(path)
    for file in entry.files if path.is_dir() else (entry.file(path.name),):
        one = path / file.name if path.is_dir() else path
        if not one.is_file():
            raise DataNotFoundError(f"data set {dataset}: there is no file {one}. How to get it: {entry.how_to_get}")
        problem = difference(one, file)
        if problem:
            raise DataError(f"{one} must be the published file of {dataset}: {problem}. How to get it: {entry.how_to_get}")


def difference(path: Path, file: catalogue.DataFile) -> str | None:
    """How a file on disk differs from the published one, as "expected ..., got ..."; None where it does not."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"expected {file.size} bytes, got {size}"
    if file.sha256 is not None:
        with path.open("rb") as stream:
            got = hashlib.file_digest(stream, "sha256").hexdigest()
        if got != file.sha256:
            return f"expected sha256 {file.sha256}, got {got}"
    return None


def places(root: str | os.PathLike[str] | None = None) -> list[Path]:
    """The folders that are looked in, in this order: `root` alone if it is given, else `$DPSC_DATA` where set, and `./data`."""
    if root is not None:
        return [Path(root).absolute()]
    named = os.environ.get("DPSC_DATA")
    return [Path(place).expanduser().absolute() for place in (named, "data") if place]


def _lack(folder: Path, files: tuple[catalogue.DataFile, ...]) -> str:
    """What a folder lacks, in a few words."""
    if not folder.is_dir():
        return "no such folder"
    return "without " + ", ".join(file.name for file in files if not (folder / file.name).is_file())
