"""`python -m experiments.run experiment=<name> [key=value ...]` runs an experiment, with `-m` a sweep.

Exit codes: 0 finished, and every expected row that applies is met; 3 finished, and one is not; 2 a mistake in what was asked for;
130 interrupted; 1 anything else. A sweep runs every job and returns the worst code.
"""

from __future__ import annotations

import argparse
import functools
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dpsc.errors import ConfigError, DpscError
from experiments import build, compose
from experiments.job import INTERRUPTED, MISTAKE, NOT_MET, OK, UNEXPECTED, job

WORST_FIRST = (INTERRUPTED, UNEXPECTED, MISTAKE, NOT_MET, OK)


def main(arguments: Sequence[str] | None = None, *, config_dir: Path = compose.CONF, allowed: Sequence[str] = build.ALLOWED) -> int:
    """Run what the command line asks for.

    Args:
        arguments: default: those of this process.
        config_dir: holds `run.yaml` and the groups.
        allowed: packages whose functions and classes a configuration may name; code that has its own components adds its package here.
    Returns: the exit code.
    """
    asked = _parser(config_dir).parse_intermixed_args(arguments)
    try:
        if asked.cfg:
            print(OmegaConf.to_yaml(compose.compose(asked.overrides, config_dir=config_dir, more=asked.config_dir)), end="")
            return OK
        task = functools.partial(job, allowed=tuple(allowed))
        codes = _launch(compose.loader(config_dir, asked.config_dir), task, asked.overrides, asked.multirun)
    except DpscError as error:
        print(f"error: {error}", file=sys.stderr)
        return MISTAKE
    except (HydraException, OmegaConfBaseException) as error:
        print(f"error: configuration cannot be used: {str(error).splitlines()[0]}", file=sys.stderr)
        return MISTAKE
    except yaml.YAMLError as error:
        print(f"error: configuration cannot be read: {' '.join(str(error).split())}", file=sys.stderr)
        return MISTAKE
    except OSError as error:  # hydra makes the run folder; what happens inside a job ends there
        print(f"error: run folder must be a folder that can be written, but {error.filename}: {error.strerror or error}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        print("interrupted; started again with the same folder, it continues with what is unfinished", file=sys.stderr)
        return INTERRUPTED
    except Exception:
        traceback.print_exc()
        return UNEXPECTED
    return worst(codes)


def worst(codes: Sequence[int]) -> int:
    """The code of a sweep: any error before a row that is not met, and that before success."""
    return min(codes, key=lambda code: WORST_FIRST.index(code) if code in WORST_FIRST else 0, default=OK)


def _launch(loader: compose.Loader, task: Callable[[DictConfig], int], overrides: Sequence[str], multirun: bool) -> list[int]:
    """Run the job or the jobs. `hydra.main` would throw their return values away and end the process at the first error."""
    GlobalHydra.instance().clear()
    hydra = Hydra(task_name="run", config_loader=loader)
    GlobalHydra.instance().initialize(hydra)
    try:
        if not multirun:
            return [int(hydra.run("run", task, [*overrides, "hydra.mode=RUN"]).return_value)]
        batches = hydra.multirun("run", task, [*overrides, "hydra.mode=MULTIRUN"])
    finally:
        GlobalHydra.instance().clear()
    if not isinstance(batches, list):
        raise ConfigError("hydra/sweeper must hand back its jobs, as basic does, or their exit codes are lost")
    jobs = [returned for batch in batches for returned in batch]
    _tell(jobs)
    return [int(returned.return_value) for returned in jobs]


def _tell(jobs: Sequence[Any]) -> None:
    means = {OK: "finished", NOT_MET: "finished, an expected number is not met", MISTAKE: "failed", UNEXPECTED: "failed unexpectedly"}
    print(f"sweep of {len(jobs)} jobs:")
    for returned in jobs:
        code = int(returned.return_value)
        print(f"  {code:>3}  {' '.join(returned.overrides or ['as shipped'])}: {means.get(code, 'failed')}")


def _parser(config_dir: Path) -> argparse.ArgumentParser:
    folder = config_dir / "experiment"
    experiments = ", ".join(sorted(path.stem for path in folder.glob("*.yaml"))) if folder.is_dir() else ""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.run", description=__doc__, epilog=f"experiments: {experiments}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides of the configuration; conf/run.yaml says what each key means")
    parser.add_argument("-m", "--multirun", action="store_true", help="a sweep over every value of key=a,b,c")
    parser.add_argument("-c", "--cfg", choices=["job"], help="show the configuration instead of running it")
    parser.add_argument("-cd", "--config-dir", type=Path, metavar="FOLDER", help="a second folder of experiments and groups")
    return parser


if __name__ == "__main__":
    sys.exit(main())
