"""What a run learned, saved so that it can be loaded again without running code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from dpsc import checks, storage
from dpsc.errors import DataError, DataNotFoundError, InputError
from dpsc.report.files import write_bytes, write_json
from dpsc.report.outcome import file_names

MANIFEST = "manifest.json"


def save_learned(folder: Path, learned: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Save state dicts as `<folder>/learned/<name>.pt`, on the CPU, and their sha256 in `learned/manifest.json`.

    Raises: InputError for a value that is no tensor; ConfigError for a folder that cannot be written.
    """
    file_names("what was learned", learned)
    manifest = {}
    for name, state in learned.items():
        for key, value in state.items():
            if not isinstance(value, Tensor):
                raise InputError(f"learned[{name!r}][{key!r}] must be a torch.Tensor, got {type(value).__name__}")
        # A clone, or a view would drag its whole storage into the file.
        content = storage.encode({str(key): value.detach().cpu().clone() for key, value in state.items()})
        write_bytes(folder / "learned" / f"{name}.pt", content)
        manifest[name] = {"file": f"{name}.pt", "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    if manifest:
        write_json(folder / "learned" / MANIFEST, manifest)


def load_learned(folder: Path | str, name: str) -> dict[str, Tensor]:
    """Load what a run learned, after its hash was checked.

    Args:
        folder: the run folder.
        name: key of `Outcome.learned`.
    Returns: the state dict, on the CPU.
    Raises: DataNotFoundError where the folder holds nothing of that name; DataError for a damaged file.
    """
    place = Path(folder) / "learned"
    try:
        manifest = {entry: str(facts["sha256"]) for entry, facts in json.loads((place / MANIFEST).read_text()).items()}
    except FileNotFoundError:
        raise DataNotFoundError(f"{place / MANIFEST} must exist; {folder} is no folder of a finished run that learned something") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{place / MANIFEST} must be the manifest that a run wrote, got {type(error).__name__}: {error}") from error
    if name not in manifest:
        raise DataNotFoundError(f"learned name must be one of {', '.join(manifest) or '(none)'}; got {name!r}{checks.near(name, manifest)}")
    file_names("what was learned", [name])
    path = place / f"{name}.pt"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataNotFoundError(f"{path} must exist, the manifest lists it") from None
    got = hashlib.sha256(content).hexdigest()
    if got != manifest[name]:
        raise DataError(f"{path} is damaged: its sha256 must be {manifest[name]}, got {got}")
    state: dict[str, Tensor] = storage.decode(content, str(path))
    return state
