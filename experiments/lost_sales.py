"""Lost sales with a lead time: whole orders from a capped base-stock rule and from a network, by gradients of the exact average cost."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dpsc import instances, noise
from dpsc.decision.lost_sales import CorrectedCappedOrder, capped_order
from dpsc.instances.lost_sales import demand_pmf
from dpsc.objective import Costs, path_cost
from dpsc.relax import Anneal, Exact, Rounded
from dpsc.report import Outcome, Section, figures
from dpsc.report.inventory import policy_surface
from dpsc.search import LostSales, capped_base_stock
from dpsc.simulate import Network, Noise, State, World, order, receive, rollout, serve, start
from dpsc.simulate.lost_sales_chain import ChainMemory, LostSalesChain
from dpsc.training import fit
from dpsc.types import Context, Instance, Relaxation
from experiments.context import RunContext

SETTLING = 40  # power iterations before the first step
SHOWN = "lost_sales_poisson_2_9"  # two numbers are a state: its orders fit on a page


@dataclass(frozen=True)
class Simulated:
    """How the network is trained on simulated futures instead: on `names`, with `paths` futures of `periods` periods a step, `steps` gradient steps."""

    names: Sequence[str]
    paths: int
    periods: int
    steps: int
    optimizer: Callable[..., torch.optim.Optimizer]
    anneal: Anneal


def run(
    *,
    context: RunContext,
    names: list[str],
    steps: Mapping[str, int],
    optimizer: Mapping[str, Callable[..., torch.optim.Optimizer]],
    width: int,
    anneal: Sequence[Anneal],
    second_try: int,
    margin: int,
    simulated: Simulated | None = None,
) -> Outcome:
    """Train both rules on every instance and price what they order exactly.

    Args:
        context: of the run.
        names: of instances.
        steps: "capped", "network" -> gradient steps.
        optimizer: the same -> partial of torch.optim.
        width: of the network's two hidden layers.
        anneal: schedules of the rounding of the network's orders; the rule of the one that ends cheaper, priced exactly, counts.
        second_try: states up to which more than the first schedule is tried.
        margin: units by which the network may order more than the trained cap.
        simulated: instances whose network is trained on simulated futures as well.
    """
    begin, begin_cpu = time.perf_counter(), time.process_time()
    rows: list[dict[str, Any]] = []
    curves: dict[str, list[Tensor]] = {"poisson": [], "geometric": []}
    learned: dict[str, Any] = {}
    pictures: dict[str, Tensor] = {}
    cases: dict[str, tuple[Case, float, float]] = {}
    for name in context.track(names, "instances", len(names)):
        instance = instances.get(name)
        started = time.process_time()
        case = Case(instance, context.device)
        level, cap, _ = case.train_capped(steps["capped"], optimizer["capped"])
        capped = case.best_whole(level, cap)
        trained_capped = time.process_time()
        case.restrict(math.ceil(cap) + margin, level, cap)
        tries = [
            case.train_network(level, cap, case.memory, steps["network"], optimizer["network"], width, schedule, context.seed)
            for schedule in (anneal if len(case.chain.states) <= second_try else anneal[:1])
        ]
        trained = time.process_time()
        prices = [case.price(case.whole(rule)) for rule, _ in tries]
        cost = min(prices)
        rule, curve = tries[prices.index(cost)]
        priced = time.process_time()
        optimum, _ = case.referee.optimum(tolerance=1e-6)
        solved = time.process_time()
        known = instance.known.get("capped_cost")
        rows.append(
            {
                "instance": name.removeprefix("lost_sales_"),
                "optimum": optimum,
                "network": cost,
                "gap_pct": 100 * (cost / optimum - 1),
                "capped": capped[2],
                "capped_gap_pct": 100 * (capped[2] / optimum - 1),
                "levels": f"({capped[0]}, {capped[1]})",
                "best_levels": f"({instance.known['capped_level']}, {instance.known['capped_order']})" if known else "",
                "above_best_levels_pct": 100 * (capped[2] / known - 1) if known else float("nan"),
                "states": len(case.chain.states),
                "capped_cpu_s": trained_capped - started,
                "network_cpu_s": trained - trained_capped,
                "price_cpu_s": priced - trained,
                "optimum_cpu_s": solved - priced,
            }
        )
        curves[instance.parameters["demand"]].append(100 * (curve / optimum - 1))
        learned[rows[-1]["instance"]] = {"level": torch.tensor(level), "cap": torch.tensor(cap), **rule.state_dict()}
        cases[name] = (case, level, cap)
        if name == SHOWN:
            pictures = {"network": case.grid(case.whole(rule)), "capped base-stock": case.grid(capped_base_stock(*capped[:2]))}
    wall, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    table = pd.DataFrame(rows).set_index("instance", drop=False)
    futures: list[dict[str, Any]] = []
    for name in context.track([n for n in simulated.names if n in cases] if simulated is not None else [], "simulated futures"):
        assert simulated is not None
        started = time.process_time()
        case, level, cap = cases[name]
        row = table.loc[name.removeprefix("lost_sales_")]
        found = case.price(case.whole(case.train_simulated(level, cap, simulated, width, context.seed)))
        futures.append(
            {
                "instance": row.instance,
                "gap_pct": 100 * (found / row.optimum - 1),
                "chain_gap_pct": row.gap_pct,
                "capped_gap_pct": row.capped_gap_pct,
                "periods_drawn": simulated.paths * simulated.periods * simulated.steps,
                "cpu_s": time.process_time() - started,
            }
        )
    return _outcome(table.reset_index(drop=True), pd.DataFrame(futures), curves, pictures, learned, wall, cpu)


class Case:
    """One instance: the chain that training differentiates, and the referee that prices, which share no code."""

    def __init__(self, instance: Instance, device: torch.device) -> None:
        p = instance.parameters
        pmf = demand_pmf(p["demand"], p["mean_demand"])
        costs = {"lead_time": p["lead_time"], "holding_cost": p["holding_cost"], "stockout_cost": p["stockout_cost"]}
        self.referee = LostSales(pmf, **costs)
        self.bounds = self.referee.bounds()
        self.chain = LostSalesChain(pmf.to(device), **costs, bounds=self.bounds)
        self.memory = self.chain.start()
        self._pmf, self._costs = pmf.to(device), costs

    def restrict(self, largest: int, level: float, cap: float) -> None:
        """Go on with orders up to `largest`, from the shares of time that a capped rule leads to."""
        self.bounds = [min(self.bounds[0], largest), *self.bounds[1:]]
        self.chain = LostSalesChain(self._pmf, **self._costs, bounds=self.bounds)
        order = capped_order(self.chain.states.sum(-1), torch.tensor(level), torch.tensor(cap))
        self.memory = self.chain.average_cost(torch.minimum(order, self.chain.room), self.chain.start(), sweeps=SETTLING)[1]

    def train_capped(self, steps: int, optimizer: Callable[..., torch.optim.Optimizer]) -> tuple[float, float, ChainMemory]:
        """S and r from the newsvendor levels, which bound them: projected gradient steps, the mean of the last quarter."""
        chain = self.chain
        position = chain.states.sum(-1)
        upper = torch.tensor([self.bounds[-1], self.bounds[0]], dtype=chain.states.dtype, device=position.device)
        parameters = upper.clone().requires_grad_()
        tail: list[Tensor] = []

        def order() -> Tensor:
            return torch.minimum(capped_order(position, parameters[0], parameters[1]), chain.room)

        memory = [chain.average_cost(order().detach(), chain.start(), sweeps=SETTLING)[1]]

        def loss(_: Any, done: float) -> Tensor:
            with torch.no_grad():
                parameters.copy_(torch.minimum(parameters, upper).clamp_min(0.5))
            if done >= 0.75:
                tail.append(parameters.detach().clone())
            cost, memory[0] = chain.average_cost(order(), memory[0])
            return cost

        fit(loss, optimizer=optimizer([parameters]), batches=lambda _: [None], epochs=steps, rate=lambda done: 1 - done)
        level, cap = torch.stack(tail).mean(0).tolist()
        return level, cap, memory[0]

    def best_whole(self, level: float, cap: float) -> tuple[int, int, float]:
        """The best of the four whole neighbours of (S, r), priced exactly."""
        near = [(int(level) + i, int(cap) + j) for i in (0, 1) for j in (0, 1) if int(cap) + j > 0]
        priced = [(s, r, self.referee.cost(capped_base_stock(s, r), highest=s, largest_order=min(r, s))[0]) for s, r in near]
        return min(priced, key=lambda found: found[2])

    def train_network(
        self,
        level: float,
        cap: float,
        memory: ChainMemory,
        steps: int,
        optimizer: Callable[..., torch.optim.Optimizer],
        width: int,
        anneal: Anneal,
        seed: int,
    ) -> tuple[CorrectedCappedOrder, Tensor]:
        """The rule, and the average cost of its randomly rounded orders at every step."""
        chain, projected = self.chain, self.chain.projected_stock()
        rule = CorrectedCappedOrder(level, cap, states=chain.states, projected=projected, weight=memory.share, width=width, seed=seed)
        kept = [memory]

        def loss(_: Any, done: float) -> Tensor:
            order = rule(chain.states, projected, room=chain.room, relax=anneal(done))
            cost, kept[0] = chain.average_cost(order, kept[0])
            return cost

        history = fit(loss, optimizer=optimizer(rule.network.parameters()), batches=lambda _: [None], epochs=steps, rate=lambda done: min(1.0, 2 * (1 - done)))
        return rule, history.loss.cpu()

    def train_simulated(self, level: float, cap: float, simulated: Simulated, width: int, seed: int) -> CorrectedCappedOrder:
        """The same rule, but for the projected stock, by pathwise gradients through simulated futures.

        Orders are whole, rounded at random, and passed backwards as if they had not been; stock and demand are whole and tie often, and the sub-gradient of
        their minimum, half and half, is the mean of the slopes to both sides. A step goes on where the step before ended.
        """
        chain, lead = self.chain, self.chain.lead_time
        rule = CorrectedCappedOrder(level, cap, states=chain.states, projected=None, weight=self.memory.share, width=width, seed=seed)
        world = World(network=Network.items(1), lead_time=torch.tensor([lead], device=chain.states.device), wait=0.0, events=(receive, order, serve))
        price = functools.partial(path_cost, costs=Costs(holding=self._costs["holding_cost"], lost_sale=self._costs["stockout_cost"]))
        below = self._pmf.cumsum(0)
        period, path = torch.arange(simulated.periods)[:, None], torch.arange(simulated.paths)
        kept = [start(world, torch.full((1,), level, dtype=chain.states.dtype, device=chain.states.device), paths=simulated.paths)]

        def loss(_: Any, done: float) -> Tensor:
            step = round(done * simulated.steps)
            uniform = noise.uniform(seed, f"lost_sales demand {step}", period, path).to(below.device)
            up = noise.uniform(seed, f"lost_sales rounding {step}", period, path).to(below.device)
            demand = torch.searchsorted(below, uniform).clamp_max(len(below) - 1).to(chain.states)[..., None]

            def policy(state: State, context: Context, *, relax: Relaxation) -> Tensor:
                seen = torch.stack([state.on_hand[..., 0], *(slot[..., 0] for slot in state.pipeline[: lead - 1])], -1)
                wanted = rule(seen, None, room=self.room(seen), relax=relax)
                placed = Rounded(wanted.detach()).quantile(up[context.period])
                return (wanted + (placed - wanted).detach())[..., None]

            played = rollout(world, policy, Noise(demand=demand), start=kept[0], relax=simulated.anneal(done), price=price)
            last = played.state
            kept[0] = last._replace(on_hand=last.on_hand.detach(), pipeline=tuple(slot.detach() for slot in last.pipeline))
            assert played.total is not None
            return played.total.mean() / simulated.periods

        fit(
            loss, optimizer=simulated.optimizer(rule.network.parameters()), batches=lambda _: [None], epochs=simulated.steps,
            rate=lambda done: min(1.0, 2 * (1 - done)),
        )  # fmt: skip
        return rule

    def whole(self, rule: CorrectedCappedOrder) -> Callable[[Tensor], Tensor]:
        """The rule read exactly: whole states in, whole orders out."""
        chain = self.chain

        def order(states: Tensor) -> Tensor:
            seen = states.to(chain.states)
            with torch.no_grad():
                projected = chain.table(seen) if rule.projects else None
                return rule(seen, projected, room=self.room(seen), relax=Exact()).to(states)

        return order

    def room(self, states: Tensor) -> Tensor:
        """Largest order of any states under the newsvendor bounds."""
        due = states.flip(-1).cumsum(-1)  # of the k orders placed before, k = 1 ... L
        bounds = torch.tensor(self.bounds, dtype=states.dtype, device=states.device)
        return torch.minimum((bounds[1:] - due).amin(-1), bounds[0]).clamp_min(0)

    def price(self, rule: Callable[[Tensor], Tensor]) -> float:
        """Exact average cost of whole orders, on the smallest lattice that holds them."""
        order = rule(self.chain.states)
        highest, largest = int((self.chain.states.sum(-1) + order).max()), int(order.max())
        return self.referee.cost(lambda states: rule(states).clamp_max(largest), highest=highest, largest_order=largest)[0]

    def grid(self, rule: Callable[[Tensor], Tensor]) -> Tensor:
        """Orders of a lead time of two: due next down, on hand across."""
        axis = torch.cartesian_prod(torch.arange(self.bounds[-1] - 2), torch.arange(self.bounds[0] + 1)).float()
        return rule(axis).reshape(-1, self.bounds[0] + 1).T


def _outcome(
    table: pd.DataFrame,
    futures: pd.DataFrame,
    curves: Mapping[str, list[Tensor]],
    pictures: Mapping[str, Tensor],
    learned: Mapping[str, Any],
    wall: float,
    cpu: float,
) -> Outcome:
    poisson, geometric = (table[table.instance.str.startswith(law)] for law in ("poisson", "geometric"))
    metrics = {f"gap_pct_{row.instance}": row.gap_pct for row in table.itertuples()}
    metrics |= {f"capped_above_best_pct_{row.instance}": row.above_best_levels_pct for row in poisson.itertuples()}
    for law, part in (("", poisson), ("geometric_", geometric)):
        if len(part):
            metrics |= {
                f"{law}mean_gap_pct": part.gap_pct.mean(),
                f"{law}max_gap_pct": part.gap_pct.max(),
                f"{law}capped_mean_gap_pct": part.capped_gap_pct.mean(),
            }
    if len(poisson):
        metrics["capped_worst_gap_pct"] = poisson.above_best_levels_pct.max()
    metrics |= {f"simulated_gap_pct_{row.instance}": row.gap_pct for row in futures.itertuples()}
    metrics |= {"wall_s": wall, "cpu_s": cpu, "optimum_cpu_s": table.optimum_cpu_s.sum()}
    drawn = {"training": figures.curves(
        {f"{law} demand": torch.stack(seen).clamp(-1, 4) for law, seen in curves.items() if seen}, x_label="step of the network", y_label="above the optimum, %"
    )}  # fmt: skip
    if pictures:
        down, across = next(iter(pictures.values())).shape
        drawn["orders"] = policy_surface(
            pictures,
            x=torch.arange(across),
            y=torch.arange(down),
            x_label="stock on hand, units",
            y_label="due in the next period, units",
            label="order, units",
        )
    return Outcome(
        metrics=metrics,
        title="Lost sales with a lead time",
        summary=(
            f"Whole orders of a network trained by gradients, priced exactly: {table.gap_pct.mean():.3f} % above the optimum on average over {len(table)} "
            f"instances, {table.gap_pct.max():.3f} % at most, all in {cpu:.0f} CPU seconds. The best of the simple rules, capped base-stock, stays "
            f"{table.capped_gap_pct.mean():.2f} % above on average."
        ),
        sections=[
            Section(
                "The question",
                "Orders arrive L = 1 ... 4 periods after they are placed; demand that meets an empty shelf is lost. A unit left over costs 1 a period, a lost "
                "sale p = 4, 9, 19 or 39; demand has mean 5. The optimal order depends on everything that is still on its way, and has no simple form.\n\n"
                "Every rule is a Markov chain on whole units. A real order is rounded at random while training, so the average cost is differentiable: its "
                "gradient is the share of time in a state times what one more unit costs from there on. Both are followed by one power iteration a gradient "
                "step. First the two numbers of a capped base-stock rule are trained, from newsvendor levels; then a network that corrects it, while "
                "the random rounding sharpens to ordinary rounding. No step asks which order is best in a state, as value iteration does.",
            ),
            Section(
                "Result",
                "Every cost belongs to whole orders and is exact, by an independent referee. gap_pct: the network above the optimum. above_best_levels_pct: "
                "the trained capped rule above the best capped rule that exists. On lattices this small, value iteration finds the optimum itself faster "
                "than the network is trained (optimum_cpu_s): the optimum certifies the gradient, it is not a competitor that was beaten.",
                tables=("instances",),
            ),
            *(
                [
                    Section(
                        "The same network on simulated futures",
                        "From the same capped rule, but by a simulator: whole orders, and the gradient through every path, the way that carries over to worlds "
                        "whose states cannot be listed. The network lacks one feature, the projected stock; the prices are exact again.",
                        tables=("simulated",),
                    )
                ]
                if len(futures)
                else []
            ),
            Section(
                "What it learned",
                "Orders for L = 2, p = 9." if pictures else "",
                figures=("orders",) if pictures else (),
            ),
            Section(
                "Training",
                "Average cost of the randomly rounded orders above the optimum: mean over the instances, band 10 % to 90 %. With one power "
                "iteration a step it lags behind the rule, so it can dip below zero.",
                figures=("training",),
            ),
        ],
        tables={"instances": table} | ({"simulated": futures} if len(futures) else {}),
        figures=drawn,
        learned=learned,
    )
