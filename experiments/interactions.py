"""Two-stage against decision-focused training on synthetic data with interactions, for any number of seeds side by side.

A predictor that cannot see the interactions is fitted to the targets (two-stage), then trained further through the decision layer. Regret is that of the
layer's own objective; where the source scores decisions by something else, both are reported and told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from dpsc import checks
from dpsc.data.interactions import interaction_data
from dpsc.decision import DecisionLayer
from dpsc.errors import ShapeError
from dpsc.objective import DecisionLoss, regret
from dpsc.report import Outcome
from dpsc.training import Checkpoint, Ensemble, History, fit, least_squares
from dpsc.types import Instance
from experiments.context import RunContext
from experiments.statistics import interval

if TYPE_CHECKING:
    import pandas

STREAM = ("weights", "pairs", "interaction", "noise", "center")


@dataclass(frozen=True)
class Training:
    """One phase of training: how, for how many epochs, in batches of how many rows."""

    optimizer: Callable[..., torch.optim.Optimizer]
    epochs: int
    batch: int


@dataclass(frozen=True)
class Score:
    """What the source scores decisions with: a word for it, its sign (-1 if more is better) and, where it is not the layer's objective, the function."""

    name: str
    sign: float = 1.0
    function: Callable[..., Tensor] | None = None


def linear_cost(decision: Tensor, cost: Tensor) -> Tensor:
    """`(...)`: c.x, the cost without the regulariser that the layer adds."""
    return (decision * cost).sum(-1)


def perceptron(inputs: int, outputs: int, *, hidden: int) -> nn.Module:
    """One hidden layer."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs))


@dataclass(frozen=True)
class Samples:
    """Features `(G, R, F)`, targets `(G, R, K)` for training and test, and the row order of every epoch `(G, epochs, R)`, G seeds side by side."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    order: Tensor

    @classmethod
    def draw(cls, seeds: range, instance: Instance, train: int, test: int, epochs: int, before: tuple[Instance, int, int, int] | None) -> Samples:
        """One stream of numpy's legacy generator a seed: training rows, test rows, one permutation an epoch; `before` are draws that come first."""
        parts: list[list[Tensor]] = [[], [], [], [], []]
        for seed in seeds:
            random = np.random.RandomState(seed)
            if before is not None:
                first, first_train, first_test, first_epochs = before
                for rows in (first_train, first_test):
                    interaction_data(random, rows, **{k: first.parameters[k] for k in STREAM})
                for _ in range(first_epochs):
                    random.permutation(first_train)
            for i, rows in enumerate((train, test)):
                x, y = interaction_data(random, rows, **{k: instance.parameters[k] for k in STREAM})
                parts[2 * i].append(x), parts[2 * i + 1].append(y)
            parts[4].append(torch.from_numpy(np.stack([random.permutation(train) for _ in range(epochs)])))
        return cls(*(torch.stack(p) for p in parts))

    def to(self, device: torch.device) -> Samples:
        """The same on another device."""
        return Samples(*(t.to(device) for t in (self.train_x, self.train_y, self.test_x, self.test_y, self.order)))

    def batches(self, epoch: int, size: int) -> list[tuple[Tensor, Tensor]]:
        """That epoch's batches, each `(G, size, ...)`."""
        seed = torch.arange(len(self.order), device=self.order.device)[:, None]
        return [(self.train_x[seed, rows], self.train_y[seed, rows]) for rows in self.order[:, epoch].split(size, dim=1)]


@dataclass(frozen=True)
class Scored:
    """Decisions of one predictor on the test rows: the source's score, its gap to the score of the optimal decision, the regret `(G, R)`; and the
    mean squared error `(G,)` of the predictions on test and training rows, the share `(G,)` of rows whose largest share goes to the truly best item."""

    value: Tensor
    gap: Tensor
    regret: Tensor
    mse: Tensor
    train_mse: Tensor
    best_item: Tensor


def run(
    *,
    context: RunContext,
    problem: DecisionLayer,
    instance: Instance,
    predictor: Callable[[int, int], nn.Module],
    training: Mapping[str, Any],
    seeds: Mapping[str, int],
    rows: Mapping[str, int],
    score: Score | None = None,
    two_stage: Mapping[str, Any] | None = None,
    before: Mapping[str, Any] | None = None,
) -> Outcome:
    """Train and compare.

    Args:
        context: of the run.
        problem: the decision layer; its single parameter is what is predicted.
        instance: the data stream.
        predictor: `(features, outputs) -> module`.
        training: the decision-focused phase, fields of `Training`.
        seeds: `first` and `count` of numpy's legacy generator.
        rows: `train` and `test`.
        score: what the source scores and trains with; default the layer's objective.
        two_stage: the first phase (mean squared error), fields of `Training`, after which one copy goes on with squared error and one with the decision
            loss, both by `training`; default least squares in closed form, for linear predictors.
        before: draws of another instance that the stream makes first: `instance`, `train`, `test`, `epochs`.
    """
    (parameter, (outputs,)) = next(iter(problem.parameter_shapes.items()))
    if outputs != len(instance.parameters["weights"]):
        raise ShapeError(f"problem must decide over as many items as {instance.name} has, {len(instance.parameters['weights'])}, got {outputs}")
    score, focused, plain = score or Score("objective"), Training(**training), None if two_stage is None else Training(**two_stage)
    first, count = checks.at_least("seeds.first", seeds["first"], 0), checks.at_least("seeds.count", seeds["count"], 1)
    prefix = None if before is None else (before["instance"], before["train"], before["test"], before["epochs"])
    epochs = focused.epochs + (plain.epochs if plain else 0)
    data = Samples.draw(range(first, first + count), instance, rows["train"], rows["test"], epochs, prefix).to(context.device)

    members = []
    for seed in range(first, first + count):
        torch.manual_seed(seed)
        members.append(predictor(data.train_x.shape[-1], outputs).double())
    model = Ensemble(members).to(context.device)

    def phase(how: Training, loss: Callable[[Tensor, Tensor], Tensor], offset: int, label: str) -> History:
        return fit(
            lambda batch, _: loss(model(batch[0]), batch[1]),
            optimizer=how.optimizer(model.parameters()),
            batches=lambda epoch: data.batches(offset + epoch, how.batch),
            epochs=how.epochs,
            track=lambda items: context.track(items, label, how.epochs),
            checkpoint=Checkpoint(context.folder / "checkpoint" / f"{label}.pt", {"model": model}),
        )

    def squared(said: Tensor, true: Tensor) -> Tensor:
        return ((said - true) ** 2).mean((1, 2))

    if plain is None:
        _start_at_least_squares(model, data)
        start = _copy(model)
    else:  # the two-stage model gets the epochs and the optimiser of the second phase too, or longer training would pass for a better loss
        phase(plain, squared, 0, "two-stage")
        fork = _copy(model)
        phase(focused, squared, plain.epochs, "two-stage-continued")
        start = _copy(model)
    before_scores = _score(problem, parameter, score, model, data)
    if plain is not None:
        model.load_by_name(fork)
    decision_loss = DecisionLoss(problem, objective=score.function, acknowledge_mismatch=score.function is not None, reduction="none")
    history = phase(focused, lambda said, true: decision_loss({parameter: said}, {parameter: true}).mean(1), plain.epochs if plain else 0, "decision-focused")
    end = _copy(model)
    after_scores = _score(problem, parameter, score, model, data)
    optimum = problem(**{parameter: data.test_y})
    best = (score.function or problem.objective)(optimum.decision, **{parameter: data.test_y})
    metrics = _metrics(score, best, before_scores, after_scores, history)
    metrics["weight_change"] = _distance(start, end)
    demonstration = instance.parameters.get("demonstration_cost")
    sensitivity = None
    if demonstration is not None:
        sensitivity = problem.sensitivity(**{parameter: torch.tensor(demonstration, dtype=torch.float64)})[parameter]
        metrics |= {f"sensitivity_{i + 1}_{j + 1}": float(sensitivity[i, j]) for i in range(outputs) for j in range(outputs)}
    from experiments import interactions_report as page

    return page.outcome(
        title=f"{type(problem).__name__}: two-stage against decision-focused training",
        problem=problem,
        score=score,
        metrics=metrics,
        scores=(before_scores, after_scores),
        history=history,
        weights=(start, end),
        sensitivity=sensitivity,
        rows=rows,
        seeds=range(first, first + count),
    )


def _copy(model: Ensemble) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.parameters_by_name().items()}


def _start_at_least_squares(model: Ensemble, data: Samples) -> None:
    named = model.parameters_by_name()
    if set(named) - {"weight", "bias"}:
        raise checks.InputError(
            f"a two-stage start by least squares needs a linear predictor, got parameters {', '.join(named)}; give two_stage= a training phase"
        )
    weight, bias = least_squares(data.train_x, data.train_y, intercept="bias" in named)
    with torch.no_grad():
        named["weight"].copy_(weight)
        if "bias" in named:
            named["bias"].copy_(bias)


def _score(problem: DecisionLayer, parameter: str, score: Score, model: Ensemble, data: Samples) -> Scored:
    with torch.no_grad():
        said, true = model(data.test_x), {parameter: data.test_y}
        decision, optimum = problem(**{parameter: said}).decision, problem(**true)
        function = score.function or problem.objective
        value = function(decision, **true)
        best_true = (problem.objective(torch.eye(said.shape[-1], dtype=said.dtype, device=said.device), **{parameter: data.test_y[..., None, :]})).argmin(-1)
        return Scored(
            value=value,
            gap=value - function(optimum.decision, **true),
            regret=regret(problem, decision, true, optimum=optimum.objective),
            mse=((said - data.test_y) ** 2).mean((1, 2)),
            train_mse=((model(data.train_x) - data.train_y) ** 2).mean((1, 2)),
            best_item=(decision.argmax(-1) == best_true).double().sum(1),
        )


def _metrics(score: Score, best: Tensor, two: Scored, dfl: Scored, history: History) -> dict[str, float]:
    """All numbers of the run; with several seeds, means over seeds, and 95 % intervals of the regrets."""
    out: dict[str, float] = {f"oracle_{score.name}": float(score.sign * best.mean())}
    for name, s in (("two_stage", two), ("dfl", dfl)):
        out |= {
            f"{name}_{score.name}": float(score.sign * s.value.mean()),
            f"{name}_regret": float(s.gap.mean()),
            f"{name}_max_regret": float(s.gap.max()),
            f"{name}_min_regret": float(s.gap.min()),
            f"{name}_mse": float(s.mse.mean()),
            f"{name}_train_mse": float(s.train_mse.mean()),
            f"{name}_cheapest": float(s.best_item.mean()),
            f"objective_regret_{name}": float(s.regret.mean()),
        }
        per_seed = s.regret.mean(1)
        if len(per_seed) > 1:
            _, low, high = interval(per_seed)
            out |= {f"objective_regret_{name}_low": low, f"objective_regret_{name}_high": high}
    out["regret_reduction_pct"] = 100 * (1 - out["dfl_regret"] / out["two_stage_regret"])
    out["objective_regret_reduction_pct"] = 100 * (1 - out["objective_regret_dfl"] / out["objective_regret_two_stage"])
    if len(two.regret) > 1:
        change = dfl.regret.mean(1) - two.regret.mean(1)
        mean, low, high = interval(change)
        out |= {"objective_regret_change": mean, "objective_regret_change_low": low, "objective_regret_change_high": high}
        out["wins_pct"] = 100 * float((change < 0).double().mean())
        reductions = 100 * (1 - dfl.regret.mean(1) / two.regret.mean(1))
        out |= {
            f"reduction_pct_{k}": float(q)
            for k, q in zip(("quartile_1", "median", "quartile_3"), reductions.quantile(torch.tensor([0.25, 0.5, 0.75]).to(reductions)), strict=True)
        }
    out["first_epoch_loss"], out["last_epoch_loss"] = float(history.loss[0].mean()), float(history.loss[-1].mean())
    out["train_s"] = history.wall_s
    return out


def _distance(start: Mapping[str, Tensor], end: Mapping[str, Tensor]) -> float:
    """Mean over seeds of |end - start| / |start|, all parameters together."""
    first, last = (torch.cat([named[n].flatten(1) for n in start], 1) for named in (start, end))
    return float(((last - first).norm(dim=1) / first.norm(dim=1)).mean())


def per_seed_table(seeds: range, two: Scored, dfl: Scored) -> pandas.DataFrame:
    """One row a seed."""
    import pandas as pd

    a, b = two.regret.mean(1).cpu(), dfl.regret.mean(1).cpu()
    return pd.DataFrame(
        {
            "seed": list(seeds),
            "regret_two_stage": a,
            "regret_dfl": b,
            "reduction_pct": 100 * (1 - b / a),
            "mse_two_stage": two.mse.cpu(),
            "mse_dfl": dfl.mse.cpu(),
        }
    )
