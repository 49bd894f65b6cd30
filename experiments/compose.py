"""From a command line to a checked configuration, with errors that a person can act on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import setup_globals
from hydra.errors import CompactHydraException, ConfigCompositionException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dpsc import checks
from dpsc.errors import ConfigError
from experiments import schema

CONF = Path(__file__).resolve().parents[1] / "conf"

# hydra itself instantiates what these keys of its own node name, outside of experiments/build.py.
HYDRA_CALLS = ("_target_", "()", "class")
QUOTED = """'key="one text"' or 'key=["one text", "another"]'"""
HYDRA_MAY_CALL = ("hydra.", "hydra_plugins.", "logging.", "colorlog.")


class Loader(ConfigLoaderImpl):
    """hydra's loader, which also checks what it composed and explains what it could not; sweeps load every job through it."""

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """See hydra. Raises: ConfigError."""
        overrides = [readable(line) for line in overrides]
        try:
            config = super().load_configuration(config_name, overrides, run_mode, from_shell, validate_sweep_overrides)
            sound = [line for line in overrides if not line.startswith("+")]
        except MissingConfigException as error:
            raise ConfigError(_unknown_option(error)) from error
        except OverrideParseException as error:
            unread = "" if "=" not in error.override else f", which cannot be read: {str(error).splitlines()[0]}"
            quote = f"; texts with other signs go in quotes that the shell keeps: {QUOTED}" if unread else ""
            raise ConfigError(f"an argument must be key=value, got {error.override!r}{unread or self._meant(error.override)}{quote}") from error
        except (CompactHydraException, OmegaConfBaseException) as error:
            raise ConfigError(self._explain(error, config_name, overrides, run_mode)) from error
        for key in [*config, *(f"data.{key}" for key in config.data)]:  # `+key=value` gets past the schema
            if key not in ("hydra", *schema.KEYS):
                raise ConfigError(_unknown_key(str(key), _keys(super().load_configuration(config_name, sound, run_mode, from_shell))))
        if not OmegaConf.is_missing(config, "name"):
            schema.run_name(config.name)
        if config.folder == "":
            raise ConfigError("folder must be the path of a folder or null, got nothing")
        _check_hydra_node(OmegaConf.to_container(config.hydra, resolve=False))
        return config

    def _explain(self, error: Exception, config_name: str | None, overrides: Sequence[str], run_mode: RunMode) -> str:
        text = str(error) or str(error.__cause__ or "")
        unknown = re.match(r"Could not override '([^']+)'", text)
        if unknown and isinstance(error, ConfigCompositionException):
            inner = re.search(r"full_key: (\S+)", str(error.__cause__))  # a key inside of a mapping that was given whole
            key = inner[1] if inner and inner[1].startswith(unknown[1]) else unknown[1]
            rest = [line for line in overrides if not re.match(rf"\+*~?{re.escape(unknown[1])}(=|$)", line)]
            try:
                return _unknown_key(key, _keys(super().load_configuration(config_name, rest, run_mode)))
            except (CompactHydraException, OmegaConfBaseException):
                return f"configuration has no key {key!r}"
        wrong = re.search(r"[Kk]ey '([^']+)' not in 'Run'", f"{text} {error.__cause__ or ''}")
        if wrong:
            where = re.match(r"In '([^']+)'", text)
            return (f"conf/{where[1]}.yaml: " if where else "") + _unknown_key(wrong[1], schema.KEYS)
        reason = str(error.__cause__).splitlines()[0] if error.__cause__ else ""
        return f"configuration cannot be composed: {text}" + (f": {reason}" if reason and reason not in text else "")

    def _meant(self, argument: str) -> str:
        options = self.get_group_options("experiment")
        return f" (did you mean experiment={argument}?)" if argument in options else checks.near(argument, options)


def loader(config_dir: Path = CONF, more: Path | None = None) -> Loader:
    """A loader for a configuration folder.

    Args:
        config_dir: holds `run.yaml` and the groups.
        more: a second folder with experiments and other groups.
    Raises: ConfigError where a folder does not exist.
    """
    setup_globals()
    schema.register()
    search_path = create_config_search_path(str(_folder(config_dir)))
    if more is not None:
        path = search_path.get_path()
        search_path.append("command-line", f"file://{_folder(more)}")
        path.insert(len(path) - 2, path.pop())  # before the schema, which must stay last
    return Loader(config_search_path=search_path)


def compose(overrides: Sequence[str] = (), *, config_dir: Path = CONF, more: Path | None = None) -> DictConfig:
    """The configuration that `python -m experiments.run <overrides>` would run, without hydra's own node.

    Args:
        overrides: as on the command line, `experiment=<name>` first among them.
        config_dir: see `loader`.
        more: see `loader`.
    Raises: ConfigError.
    """
    config = loader(config_dir, more).load_configuration("run", list(overrides), RunMode.RUN)
    OmegaConf.set_struct(config, False)
    config.pop("hydra")
    OmegaConf.set_struct(config, True)
    return config


def plain(config: DictConfig) -> dict[str, Any]:
    """A configuration as plain mappings and lists, resolved.

    Raises: ConfigError where a value is missing or an interpolation leads nowhere.
    """
    try:
        container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"configuration must be complete: {str(error).splitlines()[0]}") from error
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def results_only(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a plain configuration that decides what a run finds."""
    kept = {key: value for key, value in config.items() if key not in schema.NEUTRAL}
    kept["data"] = {key: value for key, value in config.get("data", {}).items() if f"data.{key}" not in schema.NEUTRAL}
    return kept


def changes(overrides: Sequence[str]) -> list[str]:
    """The overrides after which a run is not the shipped experiment any more."""
    return [line for line in overrides if override_key(line) not in ("experiment", *schema.NEUTRAL)]


def readable(override: str) -> str:
    """An override with its text in quotes where hydra reads it only so, `table.separator=;` or `table.other_rows=[Löhne]`; else as it is.

    Left alone are values with brackets or signs of interpolation inside, and commas between words, which mean a sweep.
    """
    key, sign, value = override.partition("=")
    if not sign or _parses(override):
        return override
    whole = value[:1] + value[-1:] == "[]"
    inside = value[1:-1] if whole else value
    if re.search(r"[\[\]{}$\\]", inside) or (not whole and re.search(r"""["']|\w.*,|,.*\w""", inside)):
        return override
    parts = [part.strip() for part in re.findall(r"""\s*"[^"]*"\s*|\s*'[^']*'\s*|[^,]+""", inside)]
    parts = [part if _parses(f"{key}={part}") else f'"{part}"' for part in parts]
    quoted = f"{key}=[{','.join(parts)}]" if whole else f'{key}="{value}"'
    return quoted if _parses(quoted) else override


def _parses(override: str) -> bool:
    try:
        OverridesParser.create().parse_overrides([override])
    except OverrideParseException:
        return False
    return True


def override_key(override: str) -> str:
    """Key of an override, without its `+`, `++` or `~`."""
    return override.split("=", 1)[0].lstrip("+~")


def _folder(path: Path) -> Path:
    if not Path(path).is_dir():
        raise ConfigError(f"configuration folder must exist, got {path}")
    return Path(path).resolve()


def _keys(config: DictConfig) -> list[str]:
    container = OmegaConf.to_container(config, resolve=False)
    assert isinstance(container, dict)
    return [key for key in _dotted(container) if not key.startswith("hydra.")]


def _dotted(value: Mapping[Any, Any], path: str = "") -> Iterator[str]:
    for key, entry in value.items():
        dotted = f"{path}{key}"
        yield dotted
        if isinstance(entry, Mapping):
            yield from _dotted(entry, f"{dotted}.")


def _unknown_key(key: str, keys: Sequence[str]) -> str:
    """The message for a key that is not there: near keys beside it, else keys of that name elsewhere."""
    parent, _, last = key.rpartition(".")
    names = {known: known.rpartition(".")[2] for known in keys}
    beside = {name: known for known, name in names.items() if known == f"{parent}.{name}" or (not parent and known == name)}
    close = [beside[name] for name in difflib.get_close_matches(last, list(beside), n=3, cutoff=0.6)]
    close = close or [known for known, name in names.items() if name in difflib.get_close_matches(last, list(names.values()), n=3, cutoff=0.8)]
    near = f" (did you mean {', '.join(close[:3])}?)" if close else ""
    there = f"; {parent} holds {', '.join(beside)}" if parent and beside else ""
    default = f"; an argument that {parent} leaves at its default is set with +{key}=..." if not close and f"{parent}._target_" in names else ""
    return f"configuration has no key {key!r}{near}{there}{default}"


def _unknown_option(error: MissingConfigException) -> str:
    missing = str(error.missing_cfg_file or "")
    group, _, option = missing.rpartition("/")
    if not error.options or not group:
        return str(error).strip()
    return f"{group} must be one of {', '.join(sorted(error.options))}; got {option!r}{checks.near(option, error.options)}"


def _check_hydra_node(node: Any, path: str = "hydra") -> None:
    """Refuse a configuration file that has hydra call something else than hydra, its plug-ins and loggers."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key in HYDRA_CALLS and not str(value).startswith(HYDRA_MAY_CALL):
                raise ConfigError(f"{path}.{key} must begin with one of {', '.join(HYDRA_MAY_CALL)}; got {value!r}")
            _check_hydra_node(value, f"{path}.{key}")
    elif isinstance(node, list):
        for position, value in enumerate(node):
            _check_hydra_node(value, f"{path}[{position}]")
