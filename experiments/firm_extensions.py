"""One shock through the network of firms as it is, and with prices, lags, labour, exits, rebuilding and shared capacity: alone and together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy
import pandas as pd
import torch
from torch import Tensor

from dpsc import noise
from dpsc.relax import Exact, Logistic, Smoothed
from dpsc.report import Outcome, Section, economy, figures
from dpsc.simulate import firms
from dpsc.simulate.firms import prices
from dpsc.types import Relaxation
from experiments.context import RunContext

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SERIES = {
    "price": "price, 1 at rest",
    "under_way": "goods under way, share of the usual",
    "workers": "workers, share of the usual",
    "open": "places open, share",
    "missing": "capital missing, steps of output",
}
ADDS = {
    "prices": "costs are passed on with a lag, scarce goods get dear, final demand answers",
    "lags": "goods are under way for 0 to 3 steps",
    "labour": "firms hire and fire slowly",
    "entry": "losses close firms, others take their place",
    "rebuilding": "the firms that are hit lose capital as well, and two sectors rebuild it",
    "products": "three nodes are the products of one firm and share its capacity",
    "together": "all of these",
}


@dataclass(frozen=True)
class Model:
    """The network and its shock, `(T, M, B)` productivity and `(M, B)` size; one base for all, the shock on capacity."""

    network: firms.Network
    parameters: firms.Parameters
    productivity: Tensor
    size: Tensor
    onset: int
    settings: Mapping[str, Any]

    def rules(self, name: str, *, limit: bool = False) -> firms.Rules:
        """Parts of the run of an extension."""
        rules = firms.Rules(shock_on_stock=False)
        if name not in ("products", "together"):
            return rules
        nodes = torch.arange(self.network.firms)
        return replace(rules, production=firms.SharedCapacity(nodes if limit else nodes // int(self.settings["products"])))

    def extensions(self, name: str, *, limit: bool = False, **changed: Any) -> list[firms.Extension]:
        """The extensions of a run, as set, or in the limit in which they change nothing."""
        makers = {"rebuilding": self._rebuilding, "prices": self._prices, "lags": self._lags, "labour": self._labour, "entry": self._entry}
        chosen = [make for key, make in makers.items() if name in (key, "together")]
        return [make(limit, changed) for make in chosen]

    def run(
        self, name: str, *, limit: bool = False, steps: int | None = None, columns: int | None = None, relax: Relaxation | None = None,
        parameters: firms.Parameters | None = None, **changed: Any,
    ) -> firms.Run:  # fmt: skip
        """A run with an extension; `base` for none."""
        small = replace(self, productivity=self.productivity[:steps, :, :columns], size=self.size[:, :columns])
        return firms.rollout(
            self.network,
            parameters or self.parameters,
            productivity=small.productivity,
            rules=small.rules(name, limit=limit),
            extensions=small.extensions(name, limit=limit, **changed),
            relax=relax or Exact(),
        )

    def by_steps(self) -> Tensor:
        """The plain step, one after the other, `(T, M, B)` output."""
        state, made = firms.start(self.network, self.parameters, batch=self.productivity.shape[2]), []
        for z in self.productivity:
            state, flow = firms.step(state, self.network, self.parameters, firms.Shock(z), rules=firms.Rules(shock_on_stock=False))
            made.append(flow.output)
        return torch.stack(made)

    def _prices(self, limit: bool, changed: Mapping[str, Any]) -> firms.Extension:
        return firms.Prices() if limit else firms.Prices(**{**self.settings["prices"], **_of("prices", changed)})

    def _lags(self, limit: bool, changed: Mapping[str, Any]) -> firms.Extension:
        edge = torch.arange(self.network.edges)
        drawn = (noise.uniform(int(self.settings["seed"]), "lags", edge) * (int(self.settings["longest_lag"]) + 1)).long()
        return firms.Lags(torch.zeros_like(drawn) if limit else drawn)

    def _labour(self, limit: bool, changed: Mapping[str, Any]) -> firms.Extension:
        if limit:
            return firms.Labour(0.0, 0.0, workers=self.parameters.capacity)
        return firms.Labour(**{**self.settings["labour"], **_of("labour", changed)})

    def _entry(self, limit: bool, changed: Mapping[str, Any]) -> firms.Extension:
        kept = {**self.settings["entry"], **_of("entry", changed)}
        return firms.Entry(**(kept | {"surplus": kept["margin"]} if limit else kept))

    def _rebuilding(self, limit: bool, changed: Mapping[str, Any]) -> firms.Extension:
        kept = {**self.settings["rebuilding"], **_of("rebuilding", changed)}
        capital = kept["capital"] * self.network.output
        builds = self.network.output * (self.network.sector < int(kept["sectors"]))
        lost = 0.0 if limit else kept["share"]
        series = firms.destruction(len(self.productivity), onset=self.onset, size=lost * self.size * capital[:, None])
        return firms.Rebuilding(series, capital=capital, builders=builds / builds.sum(), time=kept["time"])


def _of(name: str, changed: Mapping[str, Any]) -> dict[str, Any]:
    """`{"prices_lag": 2}` -> `{"lag": 2}` for prices."""
    return {key.removeprefix(f"{name}_"): value for key, value in changed.items() if key.startswith(f"{name}_")}


def run(
    *,
    context: RunContext,
    firms_: int,
    degree: float,
    sectors: int,
    scenarios: int,
    horizon: int,
    onset: int,
    shock: Mapping[str, float],
    stock: Mapping[str, float],
    adjustment_time: float,
    capacity: float,
    settings: Mapping[str, Any],
    level: float,
) -> Outcome:
    """Limits, equilibria, arrival times, gradients; then what each extension does to the same shocks.

    Args:
        context: of the run.
        firms_: M.
        degree: mean number of suppliers.
        sectors: firms are assigned to them in turn.
        scenarios: random shocks B.
        horizon: T steps.
        onset: step of the shock.
        shock: hit (probability of a firm), smallest, largest (share lost), recovery (mean rate a step).
        stock: median and spread (standard deviation of the logarithm) of the firms' stocks, steps of use.
        adjustment_time: tau, steps.
        capacity: over the output at rest.
        settings: of the extensions, see conf/flow/firm_extensions.yaml.
        level: of the bands.
    """
    begin = time.process_time()
    model = _model(context.seed, firms_, degree, sectors, scenarios, horizon, onset, shock, stock, adjustment_time, capacity, settings)
    plain, base = model.by_steps(), model.run("base").output
    rest = model.network.output
    scale = rest.sum()
    metrics: dict[str, float] = {"lost_output_pct_base": 100 * float(1 - base.sum(1).mean() / scale)}
    rows, pictures, kept, total = [], {}, {}, {}
    for name in context.track(ADDS, "extensions", len(ADDS)):
        made, limit = model.run(name), model.run(name, limit=True)
        slope, difference = _slopes(model, name)
        total[name] = made.output.sum(1) / scale
        metrics |= {
            f"limit_error_{name}": float(((limit.output - plain).abs() / rest[:, None]).max()),
            f"gradient_error_{name}": abs(slope - difference) / abs(difference),
            f"lost_output_pct_{name}": 100 * float(1 - total[name].mean()),
        }
        rows.append(
            {"extension": name, "adds": ADDS[name], "lost_output_pct": metrics[f"lost_output_pct_{name}"], "limit_error": metrics[f"limit_error_{name}"]}
            | {"parameter": GRADIENTS[name][0], "gradient": slope, "difference": difference}
        )
        series = {key: _aggregate(key, value, model.network) for key, value in made.seen.items() if key in SERIES}
        pictures[name] = _beside(base.sum(1) / scale, total[name], name, series, level)
        kept[name] = {"output": total[name]} | series
    gaps, lasting = _to_equilibrium(model)
    predicted, measured = _arrivals(model, context.seed)
    metrics |= {
        "price_error": max(float(gap[-1]) for gap in gaps.values()),
        "arrival_error_steps": float((measured - predicted).abs().max()),
        "firms_reached": len(predicted),
        "worst_gradient_error": max(metrics[f"gradient_error_{name}"] for name in ADDS),
        "cpu_s": time.process_time() - begin,
    }
    frame = pd.DataFrame(rows)
    worst = max(ADDS, key=lambda name: metrics[f"lost_output_pct_{name}"])
    by_sector = {
        name: model.network.by_sector(output, sectors) / model.network.by_sector(rest[:, None], sectors)
        for name, output in (("as it is", base), ("all extensions", model.run("together").output))
    }
    return Outcome(
        metrics=metrics,
        title="Extensions of the firm network",
        summary=(
            f"{firms_} firms, {scenarios} random shocks of {horizon} steps. The network as it is loses {metrics['lost_output_pct_base']:.1f} % of its output; "
            f"of the extensions, {worst} costs most, {metrics[f'lost_output_pct_{worst}']:.1f} %. In their limits all of them give the plain step back, prices "
            f"end at p = A'p + v to {metrics['price_error']:.0e}, and a stopped firm is felt by {len(predicted)} others in the step that stocks and lags say."
        ),
        sections=[
            Section(
                "Limits and gradients",
                "Every extension has a setting in which it changes nothing (costs constant and no price of scarcity, lags of zero, a full staff that nobody "
                "hires or fires, no fixed costs, nothing destroyed, one product a firm). Its run is then the plain step to the last digit; shared capacity "
                "multiplies by a quotient and is so to rounding. Gradients of the summed output in one parameter each are compared with central differences, "
                "those with exits under a smoothed reading, since an exit is a jump.",
                tables=("extensions",),
            ),
            Section(
                "Prices end where they must",
                f"The cost beside inputs rises by 30 % for good in every fourth firm, on average to {lasting:.2f}. Prices then go to the solution of "
                "p = A'p + v, found by a dense solver that the simulation does not know; a longer lag of costs takes longer.",
                figures=("equilibrium",),
            ),
            Section(
                "Shocks travel by stocks and lags",
                "The firm with most customers stops. With whole steps of stock and goods that are under way for whole steps, the step in which another firm "
                "stops is the shortest path from it, each buyer counting its steps of stock and each edge its lag.",
                figures=("arrivals",),
            ),
            Section(
                "What each extension does to the same shocks",
                f"Medians over the {scenarios} shocks, bands {level:.0%} intervals; first the output of all firms with and without the extension, beside it "
                "what the extension follows, firms weighted by their output at rest.",
                figures=tuple(ADDS),
            ),
            Section("All together, by sector", "Output of the sectors, as it is and with all extensions.", figures=("cascades",)),
        ],
        tables={"extensions": frame},
        figures=pictures
        | {
            "equilibrium": figures.curves({name: gap.log10() for name, gap in gaps.items()}, x_label="step", y_label="log10 of the distance to p = A'p + v"),
            "arrivals": figures.scatter_pairs(predicted, measured, x_label="steps by stocks and lags", y_label="first step with less output"),
            "cascades": economy.cascades(
                {f"sector {s + 1}": {run: economy.band(value[:, s], level) for run, value in by_sector.items()} for s in range(sectors)},
                x=torch.arange(horizon),
                x_label="step",
                y_label="output, share of the usual",
            ),
        },
        learned={name: dict(value) for name, value in kept.items()},
    )


def _model(
    seed: int, count: int, degree: float, sectors: int, scenarios: int, horizon: int, onset: int, shock: Mapping[str, float], stock: Mapping[str, float],
    adjustment_time: float, capacity: float, settings: Mapping[str, Any],
) -> Model:  # fmt: skip
    drawn = firms.synthetic(count, degree=degree, seed=seed)
    network = firms.Network.of(drawn.supplier, drawn.buyer, drawn.coefficient, drawn.final_demand, output=drawn.output, sector=torch.arange(count) % sectors)
    address = torch.arange(count)[:, None], torch.arange(scenarios)
    hit = noise.uniform(seed, "who", *address) < shock["hit"]
    lost = torch.where(hit, shock["smallest"] + (shock["largest"] - shock["smallest"]) * noise.uniform(seed, "share", *address), 0.0).to(network.output)
    rate = shock["recovery"] * torch.exp(0.5 * noise.normal(seed, "recovery", *address))
    inventory = (stock["median"] * torch.exp(stock["spread"] * noise.normal(seed, "stock", torch.arange(count)))).clamp_min(1.0)
    productivity = 1 - firms.exponential(horizon, onset=onset, size=lost, rate=rate)
    return Model(network, firms.Parameters(inventory, adjustment_time, capacity), productivity, lost, onset, {**settings, "seed": seed})


# ------------------------------------------------------------------------------------------------------------ gradients

SOFT = Smoothed(Logistic(0.1))
Change = Callable[[Model, Tensor], dict[str, Any]]


def _tau(model: Model, x: Tensor) -> dict[str, Any]:
    return {"parameters": replace(model.parameters, adjustment_time=x)}


def _capacity(model: Model, x: Tensor) -> dict[str, Any]:
    return {"parameters": replace(model.parameters, capacity=x)}


GRADIENTS: dict[str, tuple[str, Change, Callable[[Model], float], Relaxation]] = {
    "prices": ("scarcity", lambda _, x: {"prices_scarcity": x}, lambda m: m.settings["prices"]["scarcity"], Exact()),
    "lags": ("adjustment_time", _tau, lambda m: float(m.parameters.adjustment_time), Exact()),
    "labour": ("hiring", lambda _, x: {"labour_hiring": x}, lambda m: m.settings["labour"]["hiring"], Exact()),
    "entry": ("reserve", lambda _, x: {"entry_reserve": x}, lambda m: m.settings["entry"]["reserve"], SOFT),
    "rebuilding": ("time", lambda _, x: {"rebuilding_time": x}, lambda m: m.settings["rebuilding"]["time"], Exact()),
    "products": ("capacity", _capacity, lambda m: float(m.parameters.capacity), Exact()),
    "together": ("share of capital destroyed", lambda _, x: {"rebuilding_share": x}, lambda m: m.settings["rebuilding"]["share"], SOFT),
}


def _slopes(model: Model, name: str, *, steps: int = 30, columns: int = 2, width: float = 1e-6) -> tuple[float, float]:
    """Gradient of the summed output share in one parameter, and its central difference."""
    _, change, value, relax = GRADIENTS[name]
    where = torch.tensor(float(value(model)), dtype=torch.float64)

    def score(x: Tensor) -> Tensor:
        return model.run(name, steps=steps, columns=columns, relax=relax, **change(model, x)).output.sum() / model.network.output.sum()

    leaf = where.clone().requires_grad_()
    (slope,) = torch.autograd.grad(score(leaf), leaf)
    h = width * where
    with torch.no_grad():
        difference = (score(where + h) - score(where - h)) / (2 * h)
    return float(slope), float(difference)


# ------------------------------------------------------------------------------------------------------------- referees


def _to_equilibrium(model: Model) -> tuple[dict[str, Tensor], float]:
    """Relative distance of prices to p = A'p + v `(T,)` for three lags, and the mean factor on the cost v."""
    network = model.network
    raised = torch.where(torch.arange(network.firms) % 4 == 0, 1.3, 1.0).to(network.output)[:, None]
    cost = prices.own_cost(network) * raised
    static = torch.linalg.solve(torch.eye(network.firms, dtype=cost.dtype) - network.dense().mT, cost)
    gaps = {}
    for lag in (1.0, 4.0, 12.0):
        price = firms.rollout(network, model.parameters, horizon=1000, extensions=[firms.Prices(cost=cost, lag=lag)]).seen["price"]
        gaps[f"lag {lag:g}"] = (price / static - 1).abs().amax((1, 2)).clamp_min(1e-17)
    return gaps, float(raised.mean())


def _arrivals(model: Model, seed: int) -> tuple[Tensor, Tensor]:
    """Steps from the stop of one firm until others stop: shortest paths over stocks and lags, and as the run has it."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import dijkstra

    network = model.network
    steps = (2 + 5 * noise.uniform(seed, "whole stocks", torch.arange(network.firms))).floor()
    (way,) = model.extensions("lags")
    assert isinstance(way, firms.Lags)
    first = int(torch.bincount(network.supplier.long(), minlength=network.firms).argmax())
    length = (steps[network.buyer.long()] + way.lag).numpy()
    paths = csr_matrix((length, (network.supplier.numpy(), network.buyer.numpy())), shape=(network.firms, network.firms))
    away = dijkstra(paths, indices=first)
    reached = numpy.flatnonzero(numpy.isfinite(away) & (numpy.arange(network.firms) != first))
    stop = torch.ones(int(away[reached].max()) + 2 if len(reached) else 2, network.firms, 1, dtype=torch.float64)
    stop[:, first] = 0
    parameters = firms.Parameters(steps, adjustment_time=1e12)  # nobody refills a gap, so that demand stays as it is
    output = firms.rollout(network, parameters, productivity=stop, extensions=[way]).output[..., 0]
    fell = (output < (1 - 1e-6) * network.output).double().argmax(0).double()
    return torch.from_numpy(away[reached]), fell[torch.from_numpy(reached)]


# -------------------------------------------------------------------------------------------------------------- figures


def _aggregate(key: str, value: Tensor, network: firms.Network) -> Tensor:
    """`(T, B)` over firms: sums of quantities in units of the output at rest, means of shares weighted by it."""
    total = network.output.sum()
    if key == "under_way":
        return value.sum(1) / value[0].sum(0)
    return value.sum(1) / total if key == "missing" else (value * network.output[:, None]).sum(1) / total


def _beside(base: Tensor, total: Tensor, name: str, series: Mapping[str, Tensor], level: float) -> Figure:
    parts: list[tuple[str, Mapping[str, economy.Band]]] = [
        ("output, share of the usual", {"as it is": economy.band(base, level), name: economy.band(total, level)})
    ]
    parts += [(SERIES[key], {name: economy.band(value, level)}) for key, value in series.items()]
    return economy.panels(parts, x=torch.arange(len(base)), x_label="step")
