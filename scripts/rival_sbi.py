"""A neural posterior estimator of `sbi` on the calibration cases of the experiment `svi_vs_abc`, counted in the same evaluations.

    E/bin/python scripts/rival_sbi.py                                            300 firms seen through 10 sectors, and as one aggregate
    E/bin/python scripts/rival_sbi.py m300_ns10_s1 --simulations 30000 --run runs/svi_vs_abc --json out.json

E is an environment of its own with sbi (docs/benchmarks.md); dpsc never imports it. Coordinates are drawn from the prior and run once each, read exactly, with
fresh noise on their series; a masked autoregressive flow learns coordinates from series (neural posterior estimation); it is then given the series of the
case. Losses are means over draws, as in `svi_vs_abc`; coverage is the share of true coordinates in 90 % intervals. `--run` names the folder of a run of
`svi_vs_abc`, whose numbers are then printed beside. Exit codes: 0; 1 sbi is missing or a case could not be had; 2 not understood.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for dpsc and the experiments in a checkout that is not installed

import torch
from torch import Tensor

from dpsc.calibrate import Counted, covered, draw_prior
from dpsc.errors import DpscError
from dpsc.relax import Exact
from experiments.firm_cases import NOISE, Case, stored

CASES = ("m300_ns10_s1", "m300_ns1_s1")
BATCH = 250  # simulations side by side


class MissingError(Exception):
    """sbi is not there; the text says what to do."""


@dataclass(frozen=True)
class Settings:
    """Of the estimator.

    Attributes:
        transforms: layers of the flow.
        hidden: width of its networks.
        patience: epochs without a better validation loss before training stops.
        epochs: at most.
        seed: of everything random.
    """

    transforms: int
    hidden: int
    patience: int
    epochs: int
    seed: int


Estimator = Callable[[Tensor, Tensor, Tensor, int, Settings], tuple[Tensor, dict[str, Any]]]
"""Coordinates `(n, D)`, series `(n, X)`, the series seen `(X,)`, number of draws, settings -> draws `(count, D)`, and words about the fit."""


def neural(coordinates: Tensor, series: Tensor, seen: Tensor, count: int, settings: Settings) -> tuple[Tensor, dict[str, Any]]:
    """Neural posterior estimation with a masked autoregressive flow, one round.

    Source: Papamakarios, Pavlakou & Murray (2017), arXiv:1705.07057; sbi: Tejero-Cantero et al. (2020), doi:10.21105/joss.02505.
    Raises: MissingError.
    """
    try:
        import sbi
        from sbi.inference import NPE
        from sbi.neural_nets import posterior_nn
    except ImportError as error:
        raise MissingError(
            f"sbi is not installed for {sys.executable} ({error}). It is no dependency of dpsc: give it an environment of its own, "
            "python -m venv E && E/bin/pip install torch==2.13.0 && E/bin/pip install sbi==0.27.0 pyro-ppl==1.9.2 pandas, and run this script with E/bin/python"
        ) from None
    torch.manual_seed(settings.seed)
    dimension = coordinates.shape[1]
    prior = torch.distributions.MultivariateNormal(torch.zeros(dimension), torch.eye(dimension))
    build = posterior_nn("maf", hidden_features=settings.hidden, num_transforms=settings.transforms)
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # it writes logs into the folder it is called in
        trainer = NPE(prior=prior, density_estimator=build, show_progress_bars=False)
        estimator = trainer.append_simulations(coordinates, series).train(stop_after_epochs=settings.patience, max_num_epochs=settings.epochs)
    trained = time.process_time() - begin
    begin = time.process_time()
    draws = trainer.build_posterior(estimator).sample((count,), x=seen, show_progress_bars=False)
    about = {
        "sbi": sbi.__version__,
        "torch": torch.__version__,
        "epochs": len(trainer.summary["validation_loss"]),
        "weights": sum(p.numel() for p in estimator.parameters()),
        "training_cpu_s": trained,
        "drawing_cpu_s": time.process_time() - begin,
    }
    return draws.detach(), about


def simulated(case: Case, count: int, seed: int) -> tuple[Tensor, Tensor, int, float]:
    """Draws of the prior `(count, D)`, their noisy series `(count, 40 K)`, evaluations, processor seconds."""
    counted, begin = Counted(case.simulator()), time.process_time()
    coordinates = draw_prior(case.prior.dimension, count, seed=seed, dtype=torch.float32)
    generator, parts = torch.Generator().manual_seed(seed), []
    with torch.no_grad():
        for part in coordinates.split(BATCH, 1):
            series = counted(part, relax=Exact())
            parts.append((series + NOISE * torch.randn(series.shape, generator=generator)).flatten(0, 1).mT)
    return coordinates.mT.contiguous(), torch.cat(parts), counted.evaluations, time.process_time() - begin


def measure(case: Case, *, simulations: int, draws: int, interval_draws: int, settings: Settings, estimator: Estimator) -> dict[str, Any]:
    """One case: losses, coverage, evaluations and seconds."""
    coordinates, series, evaluations, spent = simulated(case, simulations, settings.seed)
    count = max(draws, interval_draws)
    found, about = estimator(coordinates, series, case.observations.values.flatten(), count, settings)
    members, firms = found.mT.contiguous(), case.network.firms
    losses, inside = case.losses(members[:, :draws]).mean(1), covered(members[:, :interval_draws], case.truth).double()
    spread = members[:, :interval_draws].std(1)
    return {
        "loss": float(losses[0]),
        "loss_later": float(losses[1]),
        "loss_shock": float(losses[2]),
        "floor": case.floor,
        "coverage_all": float(inside.mean()),
        "coverage_n": float(inside[:firms].mean()),
        "coverage_lambda_hit": float(inside[firms:][case.hit].mean()),
        "narrower_than_half": int((spread < 0.5).sum()),
        "evaluations": evaluations,
        "simulation_cpu_s": spent,
        **about,
    }


def ours(folder: Path, label: str, name: str) -> list[dict[str, Any]]:
    """The rows of a case in a run of `svi_vs_abc`, in the words of this script. Raises: OSError, KeyError for another kind of folder."""
    metrics = json.loads((folder / "metrics.json").read_text())
    if f"loss_{label}" not in metrics:
        raise KeyError(f"{folder} must hold a run of svi_vs_abc with the case {label}, got one without loss_{label}")
    with (folder / "tables" / "methods.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["data set"] == name]
    words = {"fitted_x1e4": "loss", "later_x1e4": "loss_later", "shock_x1e4": "loss_shock", "evaluations": "evaluations", "cpu_s": "cpu_s"}
    words |= {"coverage_n": "coverage_n", "coverage_lambda_hit": "coverage_lambda_hit"}
    return [{"method": row["method"]} | {new: float(row[old]) for old, new in words.items() if row.get(old)} for row in rows]


def main(arguments: Sequence[str] | None = None, *, estimator: Estimator = neural) -> int:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="case", help=f"m<firms>_ns<series>_s<seed>; default {' '.join(CASES)}")
    parser.add_argument("--simulations", type=int, default=30000, help="draws of the prior that are run (default 30000)")
    parser.add_argument("--draws", type=int, default=64, help="of the posterior, for the losses (default 64)")
    parser.add_argument("--interval-draws", type=int, default=999, help="of the posterior, for the intervals (default 999)")
    parser.add_argument("--transforms", type=int, default=2, help="layers of the flow (default 2)")
    parser.add_argument("--hidden", type=int, default=128, help="width of its networks (default 128)")
    parser.add_argument("--patience", type=int, default=5, help="epochs without a better validation loss before training stops (default 5)")
    parser.add_argument("--epochs", type=int, default=60, help="at most (default 60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="of a run of svi_vs_abc, to print beside")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here as well")
    asked = parser.parse_args(arguments)
    for name, least in (("simulations", 100), ("draws", 1), ("interval_draws", 19), ("transforms", 1), ("hidden", 1), ("patience", 1), ("epochs", 1)):
        if getattr(asked, name) < least:
            parser.error(f"--{name.replace('_', '-')} must be at least {least}, got {getattr(asked, name)}")
    wanted = {}
    for label in asked.cases or CASES:
        parts = re.fullmatch(r"m(\d+)_ns(\d+)_s(\d+)", label)
        if parts is None:
            parser.error(f"case must look like {CASES[0]}, got {label!r}")
        wanted[label] = tuple(int(part) for part in parts.groups())
    torch.set_num_threads(1)
    settings = Settings(asked.transforms, asked.hidden, asked.patience, asked.epochs, asked.seed)
    results: dict[str, dict[str, Any]] = {}
    try:
        for label, (firms, sectors, seed) in wanted.items():
            case = stored(firms, sectors, seed)
            beside = [] if asked.run is None else ours(asked.run, label, case.name)
            found = measure(case, simulations=asked.simulations, draws=asked.draws, interval_draws=asked.interval_draws, settings=settings, estimator=estimator)
            results[label] = found
            print(text(label, found, beside), flush=True)
    except (MissingError, DpscError, OSError, KeyError) as error:
        print(error.args[0] if isinstance(error, KeyError) else error, file=sys.stderr)
        return 1
    if asked.json is not None:
        asked.json.write_text(json.dumps({"settings": vars(settings), "cases": results}, indent=1) + "\n")
    return 0


def text(label: str, found: dict[str, Any], beside: Sequence[dict[str, Any]] = ()) -> str:
    """A case for people."""
    spent = sum(found.get(part, 0.0) for part in ("simulation_cpu_s", "training_cpu_s", "drawing_cpu_s"))
    columns = ("loss", "loss_later", "loss_shock", "coverage_n", "coverage_lambda_hit", "evaluations", "cpu_s")
    rows = [{"method": "neural posterior estimation", "cpu_s": spent} | found, *beside]
    lines = [f"{label}: losses x 1e4, of the truth {found['floor']:.3f}", f"{'':46s}" + "".join(f"{name:>21s}" for name in columns)]
    for row in rows:
        lines.append(f"{row['method']:46s}" + "".join(f"{'' if row.get(name) is None else format(row[name], '.4g'):>21s}" for name in columns))
    details = {key: value for key, value in found.items() if key not in columns and key != "floor"}
    lines.append("  " + ", ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in details.items()))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
