"""The contract of every order policy, the proof that none is missing, and hand-computed orders."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import dpsc
from dpsc.decision import Rationing, policies
from dpsc.decision.policies.echelon import downstream
from dpsc.decision.rationing import proportional
from dpsc.errors import InputError, SolveError
from dpsc.relax import Exact, Logistic, Smoothed, StraightThrough, positive_part
from dpsc.types import Context, Policy, Relaxation, StockState

TREE = torch.tensor([3, 3, 3, -1])  # three stores and their warehouse
SCALE = torch.tensor([4.0, 5.0, 6.0, 15.0], dtype=torch.float64)


class Stock(NamedTuple):
    on_hand: Tensor
    pipeline: tuple[Tensor, ...]

    @property
    def position(self) -> Tensor:
        return self.on_hand + sum(self.pipeline)


def units(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


class SharedCapacity(nn.Module):
    """Base-stock wants that share a capacity, for a policy that solves a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.level = policies.Quantity("level", units(13, 14, 19, 40), SCALE)

    def forward(self, state: StockState, context: Context, relax: Relaxation) -> dict[str, Tensor]:
        want = positive_part(self.level(relax=relax) - state.position, relax=Exact())
        return {"want": want, "supply": want.new_full(want.shape[:-1], 21.5), "weight": SCALE.to(want).expand_as(want)}


@dataclass(frozen=True)
class Case:
    """One policy on four points; `symmetric`: which points may change places (with all their numbers)."""

    name: str
    make: Callable[[], Policy]
    alone: bool = True  # each item's order depends on that item only
    per_item: bool = True  # refuses a world with another number of items


LEVEL = units(13.4, 14.0, 19.0, 75.0)
CASES = [
    Case("base stock", lambda: policies.BaseStock(LEVEL, scale=SCALE)),
    Case("capped base stock", lambda: policies.CappedBaseStock(LEVEL, units(5, 4.3, 7, 20), scale=SCALE)),
    Case("constant order", lambda: policies.ConstantOrder(units(3, 4.4, 6, 15), scale=SCALE)),
    Case("(s, S)", lambda: policies.OrderUpTo(units(9, 8, 14, 35), units(20, 15, 30, 60), scale=SCALE)),
    Case("(s, Q)", lambda: policies.ReorderPoint(units(9, 8, 14, 35), units(20, 15, 30, 60), scale=SCALE)),
    Case("(R, s, Q)", lambda: policies.PeriodicReorder(policies.ReorderPoint(units(9, 8, 14, 35), units(20, 15, 30, 60), scale=SCALE), 3)),
    Case("kick start, position", lambda: kick_start("position")),
    Case("kick start, idle", lambda: kick_start("idle")),
    Case("quantile newsvendor", lambda: policies.QuantileNewsvendor(units(0.9, 0.8, 0.95, 0.7), 2)),
    Case("echelon base stock", lambda: policies.EchelonBaseStock(LEVEL, TREE, weight=SCALE / 3, scale=SCALE), alone=False),
    Case("echelon base stock, proportional", lambda: policies.EchelonBaseStock(LEVEL, TREE, ration=proportional, scale=SCALE), alone=False),
    Case("neural levels", lambda: neural(), alone=False),
    Case("echelon base stock, relative", lambda: policies.EchelonBaseStock(units(3, 2.5, 3.3, 6), TREE, weight=units(1, 2, 1, 1), relative=True), alone=False),
    Case("neural levels, relative", lambda: neural(relative=True), alone=False),
    Case("a layer every period", lambda: policies.LayerPolicy(Rationing(4), SharedCapacity()), alone=False),
]


def kick_start(trigger: str) -> Policy:
    return policies.KickStart(
        units(1, 3, 6, 2), units(30, 20, 25, 80), units(9, 8, 30, 35), units(20, 15, 30, 60), horizon=12, cutoff=9, trigger=trigger, scale=SCALE
    )


def neural(relative: bool = False) -> Policy:
    features = torch.linspace(-1, 1, 8, dtype=torch.float64).reshape(4, 2)
    made = policies.NeuralLevels(
        LEVEL / SCALE if relative else LEVEL,
        TREE,
        slots=2,
        scale=torch.ones_like(SCALE) if relative else SCALE,
        features=features,
        look_back=2,
        hidden=5,
        weight=torch.ones_like(SCALE) / 3 if relative else SCALE / 3,
        relative=relative,
        generator=torch.Generator().manual_seed(0),
    )
    with torch.no_grad():  # the last layers start at zero
        made.leaf.weight.copy_(torch.linspace(-1, 1, 5))
        made.hub.weight.copy_(torch.linspace(1, -0.5, 5))
    return made


def world(*batch: int, seed: int = 0) -> tuple[Stock, Context]:
    """Whole stocks of four points, from plenty to nothing, in period 3."""
    generator = torch.Generator().manual_seed(seed)

    def draw(high: float) -> Tensor:
        return (torch.rand(*batch, 4, generator=generator, dtype=torch.float64) * high * SCALE).round()

    observed = torch.stack([draw(2.0) for _ in range(6)])
    idle = (torch.rand(*batch, 4, generator=generator, dtype=torch.float64) < 0.5).double()
    return Stock(draw(2.0), (draw(1.0) * idle, draw(1.0) * idle)), Context(3, observed, observed.mean(0)[..., None])


def select(state: Stock, context: Context, pick: Callable[[Tensor], Tensor]) -> tuple[Stock, Context]:
    assert context.observed is not None
    assert context.features is not None
    known = context._replace(observed=torch.stack([pick(x) for x in context.observed]), features=pick(context.features[..., 0])[..., None])
    return Stock(pick(state.on_hand), tuple(pick(due) for due in state.pipeline)), known


@pytest.fixture(params=CASES, ids=[c.name for c in CASES])
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


SOFT = Smoothed(Logistic(0.5))
THROUGH = StraightThrough(Logistic(0.5))


class TestEveryPolicy:
    def test_orders_are_whole_and_not_negative_when_read_exactly(self, case: Case) -> None:
        state, context = world(200)
        with torch.no_grad():
            order = case.make()(state, context, relax=Exact())
        assert order.shape == state.on_hand.shape
        assert order.dtype == torch.float64
        assert (order >= 0).all()
        assert torch.equal(order, order.round())
        assert (order > 0).any()

    def test_any_unconstrained_parameters_are_a_policy(self, case: Case) -> None:
        state, context = world(50)
        policy = case.make()
        for seed in range(5):
            generator = torch.Generator().manual_seed(seed)
            with torch.no_grad():
                for parameter in policy.parameters():
                    parameter.copy_(3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
                order = policy(state, context, relax=Exact())
            assert (order >= 0).all()
            assert torch.equal(order, order.round())

    def test_straight_through_equals_exact_to_the_bit(self, case: Case) -> None:
        state, context = world(100)
        policy = case.make()
        with torch.no_grad():
            exact = policy(state, context, relax=Exact())
        assert torch.equal(policy(state, context, relax=THROUGH), exact)

    def test_every_parameter_has_a_gradient(self, case: Case) -> None:
        policy = case.make()
        state, context = world(300)
        total = sum(policy(state, context._replace(period=t), relax=THROUGH).square().sum() for t in (0, 2, 3, 6, 7))
        gradients = torch.autograd.grad(total, list(policy.parameters()))
        assert all(g.isfinite().all() for g in gradients)
        assert all(bool((g != 0).any()) for g in gradients), [n for (n, _), g in zip(policy.named_parameters(), gradients, strict=True) if not (g != 0).any()]

    def test_gradient_of_the_smoothed_order(self, case: Case) -> None:
        state, context = world(4, seed=3)
        policy = case.make()
        names, values = zip(*policy.named_parameters(), strict=True)

        def order(*given: Tensor) -> Tensor:
            return torch.func.functional_call(policy, dict(zip(names, given, strict=True)), (state, context), {"relax": SOFT})

        assert torch.autograd.gradcheck(order, tuple(v.detach().clone().requires_grad_() for v in values))

    def test_batch_equals_loop(self, case: Case) -> None:
        state, context = world(2, 5)
        policy = case.make()
        with torch.no_grad():
            together = policy(state, context, relax=Exact())
            for i in range(2):
                for j in range(5):
                    alone = policy(*select(state, context, lambda x, i=i, j=j: x[i, j : j + 1]), relax=Exact())
                    assert torch.equal(alone[0], together[i, j])

    def test_items_alone_do_not_notice_each_other(self, case: Case) -> None:
        if not case.alone:
            return
        state, context = world(50)
        policy = case.make()
        moved = state._replace(on_hand=state.on_hand + torch.tensor([0.0, 7.0, 7.0, 7.0], dtype=torch.float64))
        with torch.no_grad():
            assert torch.equal(policy(moved, context, relax=Exact())[..., 0], policy(state, context, relax=Exact())[..., 0])

    def test_parameters_can_be_stored_and_loaded(self, case: Case) -> None:
        state, context = world(20)
        first, second = case.make(), case.make()
        with torch.no_grad():
            for parameter in first.parameters():
                parameter.add_(0.4)
            second.load_state_dict(first.state_dict())
            assert torch.equal(first(state, context, relax=Exact()), second(state, context, relax=Exact()))

    def test_single_precision_stays_single(self, case: Case) -> None:
        state, context = world(20)
        policy = case.make().float()
        with torch.no_grad():
            order = policy(*select(state, context, lambda x: x.float()), relax=Exact())
        assert order.dtype == torch.float32

    def test_a_world_of_another_size_is_refused(self, case: Case) -> None:
        state, context = world(3)
        with pytest.raises((InputError, ValueError, IndexError, RuntimeError), match=r"shape|size|bound"):
            case.make()(*select(state, context, lambda x: x[..., :2]), relax=THROUGH)


def test_the_list_of_cases_is_complete() -> None:
    for module in pkgutil.walk_packages(dpsc.__path__, "dpsc."):
        importlib.import_module(module.name)

    def below(cls: type) -> set[type]:
        return {cls}.union(*(below(s) for s in cls.__subclasses__()))

    concrete = {c for c in below(Policy) if c.__module__.startswith("dpsc.") and not inspect.isabstract(c) and not c.__name__.startswith("_")}
    assert concrete == {type(case.make()) for case in CASES}


# ------------------------------------------------------------------------------------------------------------ by hand


def at(on_hand: list[float], due: list[float]) -> Stock:
    return Stock(units(*on_hand)[None], (units(*due)[None],))


def ordered(policy: Policy, state: Stock, period: int = 0) -> list[float]:
    with torch.no_grad():
        return policy(state, Context(period), relax=Exact())[0].tolist()


def test_base_stock_capped_and_constant() -> None:
    state = at([2, 9], [3, 4])
    assert ordered(policies.BaseStock(units(10, 12)), state) == [5, 0]
    assert ordered(policies.CappedBaseStock(units(10, 14), units(3, 6)), state) == [3, 1]
    assert ordered(policies.ConstantOrder(units(2, 3)), state) == [2, 3]


def test_reorder_points_trigger_at_equality() -> None:
    state = at([2, 2, 2], [3, 4, 0])
    assert ordered(policies.OrderUpTo(units(5, 5, 5), units(9, 9, 9)), state) == [4, 0, 7]
    assert ordered(policies.ReorderPoint(units(5, 5, -1), units(9, 8, 7)), state) == [9, 0, 0]


def test_a_review_only_every_so_many_periods() -> None:
    policy = policies.PeriodicReorder(policies.ConstantOrder(units(2, 3)), torch.tensor([2, 3]), first=torch.tensor([0, 1]))
    state = at([0, 0], [0, 0])
    assert [ordered(policy, state, t) for t in range(5)] == [[2, 0], [0, 3], [2, 0], [0, 0], [2, 3]]


def test_kick_start_then_triggered_orders_until_the_cut_off() -> None:
    numbers = (units(1, 1), units(30, 40), units(5, 5), units(7, 8))
    by_position = policies.KickStart(*numbers, horizon=6, cutoff=4)
    idle = policies.KickStart(*numbers, horizon=6, cutoff=4, trigger="idle")
    state = at([4, 4], [1, 0])
    assert [ordered(by_position, state, t) for t in range(6)] == [[0, 0], [30, 40], [7, 8], [7, 8], [0, 0], [0, 0]]
    assert [ordered(idle, state, t) for t in range(6)] == [[0, 0], [30, 40], [0, 8], [0, 8], [0, 0], [0, 0]]


def test_the_quantile_of_what_an_order_covers() -> None:
    observed = torch.arange(1.0, 7.0, dtype=torch.float64)[:, None, None].expand(6, 1, 1)  # sums of two: 3, 5, 7, 9, 11
    policy = policies.QuantileNewsvendor(units(0.75), 2)
    with torch.no_grad():
        order = policy(Stock(units(2)[None], (units(1)[None],)), Context(0, observed), relax=Exact())
    assert order.tolist() == [[6.0]]


def test_echelon_levels_and_a_short_warehouse() -> None:
    state = Stock(units(2, 3, 5)[None], (units(1, 0, 4)[None],))
    policy = policies.EchelonBaseStock(units(9, 5, 40), torch.tensor([2, 2, -1]), weight=units(2, 1, 1))
    # wants 6 and 2, 5 are there: the shortage of 3 is shared 2 to 1; the warehouse lacks 40 - (2 + 3 + 5 + 1 + 0 + 4)
    assert ordered(policy, state) == [4, 1, 25]


def test_the_network_starts_at_the_echelon_policy_and_is_symmetric() -> None:
    state, context = world(60)
    with torch.no_grad():
        fresh = policies.NeuralLevels(LEVEL.round(), TREE, slots=2, scale=SCALE, weight=SCALE / 3, generator=torch.Generator().manual_seed(1))
        same = policies.EchelonBaseStock(LEVEL.round(), TREE, weight=SCALE / 3, scale=SCALE)
        assert torch.equal(fresh(state, context, relax=Exact()), same(state, context, relax=Exact()))
        policy, order = neural(), torch.tensor([2, 0, 1, 3])
        renumbered = neural()
        renumbered.load_state_dict({k: v[order] if v.shape[:1] == (4,) and k != "supplier" and k != "below" else v for k, v in policy.state_dict().items()})
        renumbered.features.copy_(policy.features[order[:3]])
        moved = renumbered(*select(state, context, lambda x: x[..., order]), relax=Exact())
        assert torch.equal(moved, policy(state, context, relax=Exact())[..., order])


def test_a_forecast_of_nothing_does_not_blow_the_network_up() -> None:
    state, context = world(50)
    assert context.features is not None
    features = context.features.clone()
    features[:, 1] = 0
    with torch.no_grad():
        order = neural(relative=True)(state, context._replace(features=features), relax=Exact())
    assert (order[:, 1] == 0).all()  # a level of nothing
    assert order.isfinite().all()
    assert order.max() < 1e3


def test_no_supplier_hands_out_more_than_it_has() -> None:
    state, context = world(300)
    for case in CASES:
        if case.name.startswith(("echelon", "neural")):
            with torch.no_grad():
                order = case.make()(state, context, relax=Exact())
            assert (order[..., :3].sum(-1) <= state.on_hand[..., 3]).all()


def test_errors_name_what_was_expected() -> None:
    with pytest.raises(InputError, match="level must be >= 0, got -1.0"):
        policies.BaseStock(units(-1, 2))
    with pytest.raises(InputError, match="the scale of level must be > 0, got 0.0"):
        policies.BaseStock(units(1, 2), scale=0.0)
    with pytest.raises(InputError, match="order_up_to_level - reorder_point must be >= 0, got -1.0"):
        policies.OrderUpTo(units(5), units(4))
    with pytest.raises(InputError, match=r"kick_period must lie in \[2, 11\] \(lead time to end of horizon\), got \[1.0\]"):
        policies.KickStart(units(1), units(1), units(1), units(1), horizon=12, cutoff=9, earliest=2)
    with pytest.raises(InputError, match="trigger must be one of idle, position; got 'positon'"):
        policies.KickStart(units(1), units(1), units(1), units(1), horizon=12, cutoff=9, trigger="positon")
    with pytest.raises(InputError, match="service must lie strictly between 0 and 1"):
        policies.QuantileNewsvendor(units(1.0), 1)
    with pytest.raises(InputError, match="at least protection = 3 observed periods, got 0"):
        policies.QuantileNewsvendor(units(0.5), 3)(at([1], [1]), Context(), relax=Exact())
    with pytest.raises(InputError, match="review_period must hold integers >= 1"):
        policies.PeriodicReorder(policies.BaseStock(units(1)), 0)
    with pytest.raises(InputError, match=r"supplier must describe a tree, got a cycle: \[1, 0\]"):
        downstream(torch.tensor([1, 0]))
    with pytest.raises(InputError, match="level must have one entry for each of the 2 points"):
        policies.EchelonBaseStock(units(1, 2, 3), torch.tensor([1, -1]))
    with pytest.raises(InputError, match=r"a relative policy needs context.features of shape .* with N = 4, got None"):
        neural(relative=True)(world(1)[0], Context(), relax=THROUGH)
    with pytest.raises(InputError, match="at least slots = 2 pipeline slots, got 1"):
        neural()(at([1, 1, 1, 1], [0, 0, 0, 0]), Context(), relax=THROUGH)
    with pytest.raises(SolveError, match=r"must have a decision in every row, got status 2 in row \(0,\) of period 5"):
        policies.LayerPolicy(Rationing(1), lambda state, context, relax: {"want": state.on_hand, "supply": -state.on_hand[..., 0], "weight": state.on_hand})(
            at([1], [1]), Context(5), relax=Exact()
        )
