"""Productions, rationings, orderings and shocks: closed forms, limits, enumeration, gradients."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from dpsc.errors import ExactJumpError, InputError, ShapeError
from dpsc.relax import Exact, Logistic, Smoothed, StraightThrough
from dpsc.simulate import firms
from dpsc.simulate.firms import rationing

F64 = torch.float64


def star(inputs: list[float], **more: Any) -> firms.Network:
    """Firm 0 buys from all others."""
    count = len(inputs)
    return firms.Network.of(
        torch.arange(1, count + 1), torch.zeros(count, dtype=torch.int64), torch.tensor(inputs, dtype=F64), torch.ones(count + 1, dtype=F64), **more
    )


def limits(network: firms.Network, stock: list[float], demand: float = 100.0, z: float = 1.0) -> firms.Limits:
    one = torch.ones(network.firms, 1, dtype=F64)
    return firms.Limits(demand * one, 100 * one, z * one, torch.tensor(stock, dtype=F64)[:, None], torch.ones(1, 1, dtype=F64), True)


# ------------------------------------------------------------------------------------------------------------ production


def test_26_substitution_runs_from_leontief_to_linear() -> None:
    network = star([0.2, 0.3, 0.1])
    at = limits(network, [1.0, 0.6, 0.8])
    weight = torch.tensor([2.0, 3.0, 1.0], dtype=F64) / 6
    ratio = torch.tensor([5.0, 2.0, 8.0], dtype=F64)
    for sigma, output in ((1e-3, 2.0), (1.0, float((weight * ratio.log()).sum().exp())), (1e6, float(weight @ ratio))):
        made = firms.CES(sigma)(network, at, relax=Exact())
        assert abs(float(made.output[0]) / output - 1) < 2e-3 if sigma == 1e-3 else abs(float(made.output[0]) / output - 1) < 1e-5
    off = []
    for sigma in (1e-2, 1e-3, 1e-4):  # just below what stocks allow
        hard, soft = (rule(network, limits(network, [1.0, 0.6, 0.8], demand=1.9), relax=Exact()) for rule in (firms.leontief, firms.CES(sigma)))
        assert torch.allclose(hard.output, soft.output)
        off.append(float((soft.use / hard.use - 1).abs().max()))
    assert off[2] < 1e-6 or off[2] < off[1] < off[0] < 0.05


@pytest.mark.parametrize("sigma", [0.3, 0.9999999, 2.5])
def test_inputs_are_substituted_only_as_far_as_stocks_force_it(sigma: float) -> None:
    network = star([0.2, 0.3, 0.1])
    rho, weight = (sigma - 1) / sigma, torch.tensor([2.0, 3.0, 1.0], dtype=F64) / 6
    plenty = firms.CES(sigma)(network, limits(network, [10.0, 10.0, 10.0], demand=4.0), relax=Exact())
    assert torch.allclose(plenty.use[:, 0], 4.0 * network.recipe, rtol=1e-9)
    at = limits(network, [1.0, 0.6, 0.8], demand=2.5)
    made = firms.CES(sigma)(network, at, relax=Exact())
    assert abs(float(made.output[0]) - 2.5) < 1e-12
    used = made.use[:, 0] / network.recipe
    assert bool((made.use[:, 0] <= at.stock[:, 0] + 1e-15).all())
    assert float(used[1]) == pytest.approx(2.0), "the short input is used up"
    assert float(used[0]) == pytest.approx(float(used[2]), rel=1e-9), "the others grow alike"
    assert float((weight * used**rho).sum() ** (1 / rho)) == pytest.approx(2.5, rel=1e-6)


def test_the_elasticity_can_be_learned() -> None:
    network = star([0.2, 0.3, 0.1])
    sigma = torch.tensor([0.6] * 4, dtype=F64, requires_grad=True)
    stock = torch.tensor([[1.0], [0.6], [0.8]], dtype=F64, requires_grad=True)

    def of(sigma: Tensor, stock: Tensor) -> Tensor:
        out = []
        for demand in (2.5, 100.0):
            made = firms.CES(sigma)(network, limits(network, [0.0] * 3, demand=demand)._replace(stock=stock), relax=Exact())
            out += [made.output[:1], made.use]
        return torch.cat(out)

    assert torch.autograd.gradcheck(of, (sigma, stock), atol=1e-6)
    assert float(torch.autograd.grad(of(sigma, stock).sum(), sigma)[0][0]) > 0
    for bad in (0.0, -1.0):
        with pytest.raises(InputError, match="elasticity must be > 0, got"):
            firms.CES(bad)


def test_inputs_that_are_not_critical_do_not_stop_a_firm() -> None:
    network = star([0.2, 0.3, 0.1])
    produce = firms.partly_binding(torch.tensor([1.0, 0.5, 0.0], dtype=F64))
    made = produce(network, limits(network, [1.0, 0.0, 0.0]), relax=Exact())
    assert float(made.output[0]) == 5.0, "critical: S / A"
    assert made.use[:, 0].tolist() == [1.0, 0.0, 0.0], "what is not there is not used"
    made = produce(network, limits(network, [50.0, 0.0, 0.0]), relax=Exact())
    assert float(made.output[0]) == 50.0, "important: half the way to capacity"
    with pytest.raises(InputError, match=r"importance must be 0, 0\.5 or 1 for each input, got 0\.3"):
        firms.partly_binding(torch.tensor([0.3], dtype=F64))
    with pytest.raises(ShapeError, match=r"importance must have shape \(K,\) = \(3,\), got \(2,\)"):
        firms.partly_binding(torch.ones(2, dtype=F64))(network, limits(network, [1.0] * 3), relax=Exact())


# ------------------------------------------------------------------------------------------------------------- rationing


def served(rule: firms.Rationing, orders: list[float], final: float, output: float, relax: Any = None) -> Tensor:
    """Deliveries of firm 0 to its customers, then to final demand."""
    count = len(orders)
    network = firms.Network.of(
        torch.zeros(count, dtype=torch.int64), torch.arange(1, count + 1), torch.full((count,), 0.1, dtype=F64), torch.ones(count + 1, dtype=F64)
    )
    order = torch.tensor(orders, dtype=F64)[:, None]
    last = torch.zeros(count + 1, 1, dtype=F64)
    last[0] = final
    demand = network.demanded(order) + last
    made = torch.zeros_like(demand)
    made[0] = output
    given = rule(network, order, last, made, demand, relax=relax or Exact())
    return torch.cat([given.delivered[:, 0], given.final[0]])


@pytest.mark.parametrize("seed", range(4))
def test_priority_is_what_a_clerk_would_hand_out(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    orders = torch.rand(5, generator=generator, dtype=F64)
    for rank in itertools.permutations(range(6)):
        output = float(torch.rand((), generator=generator, dtype=F64) * (orders.sum() + 0.5))
        given = served(firms.Priority(torch.tensor(rank[:5], dtype=F64), final_priority=float(rank[5])), orders.tolist(), 0.5, output)
        left, expected = output, [0.0] * 6
        for k in sorted(range(6), key=lambda k: -rank[k]):
            expected[k] = min(left, [*orders.tolist(), 0.5][k])
            left -= expected[k]
        assert torch.allclose(given, torch.tensor(expected, dtype=F64), atol=1e-14)


def test_priorities_in_an_uneven_network_are_those_of_single_suppliers() -> None:
    network = firms.heavy_tailed(150, degree=4.0, seed=2)
    customers = torch.bincount(network.supplier.long(), minlength=150)
    assert int(customers.max()) > 20
    assert int((customers == 0).sum()) > 5
    assert sum(len(group.firm) * group.width for group in rationing._groups(network)) < 2 * network.edges, "no room for the widest in every row"
    generator = torch.Generator().manual_seed(0)
    order, rank = (torch.rand(network.edges, 2, generator=generator, dtype=F64) for _ in range(2))
    final, last = (torch.rand(150, 2, generator=generator, dtype=F64) for _ in range(2))
    demand = network.demanded(order) + final
    output = demand * torch.rand(150, 2, generator=generator, dtype=F64)
    given = firms.Priority(rank, final_priority=last)(network, order, final, output, demand, relax=Exact())
    for j in range(150):
        mine = (network.supplier == j).nonzero()[:, 0]
        for b in range(2):
            asked = [*order[mine, b].tolist(), float(final[j, b])]
            ranks = [*rank[mine, b].tolist(), float(last[j, b])]
            left, expected = float(output[j, b]), [0.0] * len(asked)
            for k in sorted(range(len(asked)), key=lambda k: -ranks[k]):
                expected[k] = min(left, asked[k])
                left -= expected[k]
            assert [*given.delivered[mine, b].tolist(), float(given.final[j, b])] == pytest.approx(expected, abs=1e-13)


def test_the_other_rules_by_hand() -> None:
    assert served(firms.proportional, [2.0, 4.0], 2.0, 4.0).tolist() == [1.0, 2.0, 1.0]
    assert served(firms.firms_first, [2.0, 4.0], 2.0, 3.0).tolist() == [1.0, 2.0, 0.0]
    assert served(firms.firms_first, [2.0, 4.0], 2.0, 7.0).tolist() == [2.0, 4.0, 1.0]
    half = firms.mixed(0.5, firms.proportional, firms.firms_first)
    assert torch.allclose(served(half, [2.0, 4.0], 2.0, 4.0), torch.tensor([0.5 + 1.5 / 4.5 * 2, 1.0 + 3 / 4.5 * 2, 0.5], dtype=F64))
    with pytest.raises(InputError, match=r"share must lie in \[0, 1\], got 2"):
        firms.mixed(2.0, firms.proportional, firms.proportional)


def test_priorities_are_learned_through_a_reading_and_refused_exactly() -> None:
    priority = torch.tensor([0.3, 0.2, 0.1], dtype=F64, requires_grad=True)
    hard = served(firms.Priority(priority), [1.0, 1.0, 1.0], 1.0, 1.5)
    soft = served(firms.Priority(priority), [1.0, 1.0, 1.0], 1.0, 1.5, StraightThrough(Logistic(0.1)))
    assert torch.equal(hard, soft)
    (g,) = torch.autograd.grad(soft[2], priority)
    assert float(g[2]) > 0 > float(g[0])
    with pytest.raises(ExactJumpError, match="water_fill"):
        torch.autograd.grad(hard[2], priority)


def test_a_random_sequence_is_the_same_again_and_by_column() -> None:
    network = firms.synthetic(30, degree=4, seed=0)
    a, b = (firms.random_priority(network, seed=3, batch=b, final_priority=0.5) for b in (4, 2))
    assert torch.equal(a.priority[:, :2], b.priority)
    assert len(a.priority.unique()) == a.priority.numel()
    z = torch.ones(20, 30, 4, dtype=F64)
    z[3:, ::3] = 0.2
    made = firms.rollout(network, firms.Parameters(1.5), productivity=z, rules=firms.Rules(rationing=a)).output
    assert float((made[..., 0] - made[..., 1]).abs().max()) > 1e-3


def test_a_whole_run_teaches_the_priorities_of_a_random_sequence() -> None:
    network = firms.synthetic(30, degree=4, seed=0)
    drawn = firms.random_priority(network, seed=3, final_priority=0.5, scale=0.2).priority
    z = torch.ones(15, 30, 1, dtype=F64)
    z[3:, ::3] = 0.3

    def served(priority: Tensor, relax: Any) -> Tensor:
        rules = firms.Rules(rationing=firms.Priority(priority, final_priority=0.5, scale=0.2))
        return firms.rollout(network, firms.Parameters(1.5), productivity=z, rules=rules, relax=relax).final.sum()

    priority = drawn.clone().requires_grad_()
    hard, through = served(priority, Exact()), served(priority, StraightThrough(Logistic(0.2)))
    assert torch.equal(hard, through)
    with pytest.raises(ExactJumpError, match="water_fill"):
        torch.autograd.grad(hard, priority)
    (g,) = torch.autograd.grad(through, priority)
    assert float(g.abs().max()) > 0
    better = served(drawn + 0.5 * g / g.abs().max(), Exact())
    assert float(better) > float(hard.detach()), "a step along the gradient, read exactly, serves more"
    soft = Smoothed(Logistic(0.3))
    (g,) = torch.autograd.grad(served(priority, soft), priority)
    along = torch.randn(drawn.shape, generator=torch.Generator().manual_seed(1), dtype=F64)
    difference = (served(drawn + 1e-6 * along, soft) - served(drawn - 1e-6 * along, soft)) / 2e-6
    assert float(difference) == pytest.approx(float((g * along).sum()), rel=1e-5)


# -------------------------------------------------------------------------------------------------------------- ordering


def test_orders_move_to_suppliers_of_the_same_product_who_deliver() -> None:
    network = star([0.2, 0.2, 0.3], product=torch.tensor([0, 1, 1, 2]))
    assert network.inputs == 2
    parameters = firms.Parameters(3.0, 5.0)
    z = torch.ones(60, 4, 1, dtype=F64)
    z[5:, 1] = 0.1

    def run(ordering: firms.Ordering) -> Tensor:
        return firms.rollout(network, parameters, productivity=z, rules=firms.Rules(ordering=ordering)).output[..., 0]

    fixed, still, switched = run(firms.inventory_gap), run(firms.Switching(0.0)), run(firms.Switching(1.0))
    assert torch.allclose(fixed, still, rtol=1e-12), "sensitivity 0 is the recipe"
    assert float(switched[-1, 2]) > 1.05 * float(network.output[2]), "the one who delivers sells more"
    assert float(switched[:, 0].sum()) > float(fixed[:, 0].sum())
    keen = torch.full((4, 1), 0.5, dtype=F64, requires_grad=True)
    (g,) = torch.autograd.grad(run(firms.Switching(keen))[:20, 2].sum(), keen)
    assert float(g[0]) > 0


def test_targets_follow_demand_and_capacity_where_they_are_to_move() -> None:
    network = star([0.2, 0.3])
    parameters = firms.Parameters(torch.tensor([4.0, 1.0, 1.0], dtype=F64), 5.0, 1.2)
    state = firms.start(network, parameters)
    for z, demand in ((0.5, 1.0), (1.0, 0.7), (1.0, 1.5)):  # capacity binds, demand is low, demand is above capacity
        asked = state._replace(demand=demand * network.output[:, None])
        shock = firms.Shock(torch.full((3, 1), z, dtype=F64))
        for moving, level in ((True, min(demand, 1.2 * z)), (False, 1.0)):
            after, flow = firms.step(asked, network, parameters, shock, rules=firms.Rules(moving_target=moving))
            held = asked.stock + asked.order * (flow.output / flow.demand)[network.supplier.long()] - flow.use
            wanted = network.use * demand + (4.0 * level * network.use - held) / 5
            assert torch.allclose(after.order, wanted.clamp_min(0), rtol=1e-13)


def test_suppliers_of_one_product_fill_one_stock_and_replace_each_other() -> None:
    apart, joint = star([0.2, 0.2]), star([0.2, 0.2], product=torch.tensor([0, 1, 1]))
    z = torch.ones(40, 3, 1, dtype=F64)
    z[5:, 1] = 0.0
    a = firms.rollout(apart, firms.Parameters(4.0), productivity=z).output[-1, 0]
    b = firms.rollout(joint, firms.Parameters(4.0), productivity=z).output[-1, 0]
    assert float(a) < 1e-6 < 0.4 < float(b)
    calm = [firms.rollout(n, firms.Parameters(4.0), horizon=40).output for n in (apart, joint)]
    assert torch.allclose(calm[0], calm[1], rtol=1e-13)


# ---------------------------------------------------------------------------------------------------------------- shocks


def test_curves_of_recovery() -> None:
    t = torch.arange(12.0, dtype=F64)
    size = torch.tensor([0.5, 0.0], dtype=F64)
    e = (t - 3).clamp_min(0)
    begun = (t >= 3).double()
    for made, left in (
        (firms.exponential(12, onset=3, size=size, rate=0.2), torch.exp(-0.2 * e)),
        (firms.linear(12, onset=3, size=size, duration=4.0), (1 - e / 4).clamp_min(0)),
        (firms.convex(12, onset=3, size=size, duration=4.0), (1 - e / 4).clamp_min(0) ** 2),
        (firms.concave(12, onset=3, size=size, duration=4.0), (1 - (e / 4) ** 2).clamp_min(0)),
    ):
        assert made.shape == (12, 2, 1)
        assert torch.allclose(made[:, 0, 0], 0.5 * left * begun)
        assert float(made[:, 1].abs().max()) == 0
    series = torch.tensor([0.0, 0.2, 0.1], dtype=F64)
    assert torch.allclose(firms.observed(series, scale=size)[:, 0, 0], 0.5 * series)
    a, b = firms.linear(12, onset=2, size=0.5, duration=5.0), firms.linear(12, onset=4, size=0.4, duration=5.0)
    assert torch.allclose(firms.compose(a, b), a + b - a * b)


def test_lines_through_points() -> None:
    steps, losses = torch.tensor([2.0, 4.0, 5.0], dtype=F64), torch.tensor([0.2, 0.6, 0.1], dtype=F64)
    made = firms.piecewise(8, steps=steps, losses=losses)
    assert made.shape == (8, 1, 1)
    assert made[:, 0, 0].tolist() == pytest.approx([0, 0, 0.2, 0.4, 0.6, 0.1, 0.1, 0.1])
    through = torch.arange(12, dtype=F64)
    line = firms.linear(12, onset=3, size=torch.tensor([0.5, 0.2], dtype=F64), duration=4.0)
    assert torch.allclose(firms.piecewise(12, steps=torch.tensor([3.0, 7.0], dtype=F64), losses=torch.tensor([[0.5, 0.2], [0, 0]], dtype=F64)), line)
    seen = torch.rand(12, generator=torch.Generator().manual_seed(0), dtype=F64)
    assert torch.allclose(firms.piecewise(12, steps=through, losses=seen), firms.observed(seen)), "a point a step is the series itself"
    # When it sets in and how fast it goes on: the same points, moved and stretched.
    onset, pace, size = (torch.tensor(v, dtype=F64, requires_grad=True) for v in (2.3, 1.4, 0.7))
    profile = torch.tensor([0.0, 1.0, 0.4, 0.0], dtype=F64)

    def of(onset: Tensor, pace: Tensor, size: Tensor) -> Tensor:
        return firms.piecewise(12, steps=onset + pace * torch.arange(4, dtype=F64), losses=size * profile)

    assert torch.autograd.gradcheck(of, (onset, pace, size))
    assert all(float(g.abs()) > 1e-3 for g in torch.autograd.grad(of(onset, pace, size).square().sum(), (onset, pace, size)))


@pytest.mark.parametrize(
    ("steps", "losses", "error", "message"),
    [
        ([1.0, 1.0], [0.1, 0.2], InputError, r"steps must rise from point to point, got a difference of 0"),
        ([1.0, 2.0], [0.1, 1.2], InputError, r"losses must lie in \[0, 1\], got \[0\.1, 1\.2\]"),
        ([1.0, 2.0], [0.1], ShapeError, r"steps and losses must hold as many points, got 2 and 1"),
        ([], [], ShapeError, r"steps must have shape \(K,\), \(K, M\) or \(K, M, B\) with K >= 1, got \(0,\)"),
        ([float("nan")], [0.1], InputError, r"steps must be finite"),
    ],
)
def test_points_that_are_none_are_named(steps: list[float], losses: list[float], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        firms.piecewise(5, steps=torch.tensor(steps, dtype=F64), losses=torch.tensor(losses, dtype=F64))


def test_size_rate_and_a_soft_onset_have_gradients() -> None:
    size, rate, onset = (torch.tensor([[v], [v + 0.1]], dtype=F64, requires_grad=True) for v in (0.3, 0.2, 3.3))
    assert torch.autograd.gradcheck(lambda s, r: firms.exponential(9, onset=3, size=s, rate=r), (size, rate))
    assert torch.autograd.gradcheck(lambda s, r, o: firms.exponential(9, onset=o, size=s, rate=r, soft_onset=2.0), (size, rate, onset))
    assert torch.autograd.gradcheck(lambda s, d: firms.convex(9, onset=3, size=s, duration=d), (size, (10 * rate).detach().requires_grad_()))
    for curve in (firms.linear, firms.convex, firms.concave):
        duration = torch.tensor([[3.6], [4.3]], dtype=F64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda s, d, o, c=curve: c(9, onset=o, size=s, duration=d, soft_onset=2.0), (size, duration, onset))
        assert all(float(g.abs().min()) > 0 for g in torch.autograd.grad(curve(9, onset=onset, size=size, duration=duration, soft_onset=2.0).sum(), onset))
    scale = torch.tensor([0.4, 0.7], dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: firms.observed(torch.tensor([0.0, 0.5, 1.0, 0.3], dtype=F64), scale=s), (scale,))
    wide = firms.exponential(9, onset=3, size=size[:, 0], rate=torch.rand(2, 5, dtype=F64))
    assert wide.shape == (9, 2, 5)
    (g,) = torch.autograd.grad(wide.sum(), size)
    assert g.shape == (2, 1)


def test_shocks_of_every_kind_compose_in_one_run_and_are_learned() -> None:
    network = firms.synthetic(12, degree=3, seed=4)
    edges, horizon = network.edges, 12

    def output(x: Tensor) -> Tensor:
        """Productivity, final demand and edges at once: size, rate, duration and onset of each."""
        at_firms = firms.compose(
            firms.exponential(horizon, onset=2 + x[0], size=(0.3 * x[1]).expand(12), rate=0.1 * x[2], soft_onset=2.0),
            firms.linear(horizon, onset=5, size=0.2 * x[3], duration=4 * x[4]),
            firms.observed(torch.linspace(0, 0.3, horizon, dtype=F64), scale=x[5]),
        )
        wanted = firms.convex(horizon, onset=3, size=0.3 * x[6], duration=5 * x[7])
        closed = firms.concave(horizon, onset=4, size=torch.where(torch.arange(edges) % 2 == 0, 0.6 * x[8], 0.0), duration=6 * x[9])
        assert closed.shape == (horizon, edges, 1)
        final = network.final_demand[None, :, None] * (1 - wanted)
        return firms.rollout(network, firms.Parameters(1.3, 4.0), productivity=1 - at_firms, final_demand=final, transport=1 - closed).output

    at = 1 + 0.05 * torch.rand(10, generator=torch.Generator().manual_seed(0), dtype=F64)
    (g,) = torch.autograd.grad(output(at.requires_grad_()).sum(), at)
    assert float(g.abs().min()) > 0, "each of them matters"
    assert torch.autograd.gradcheck(output, (at,), eps=1e-7, atol=1e-5, rtol=1e-4)


def test_a_closed_edge_is_felt_by_its_buyer_after_the_stock_and_by_nobody_else() -> None:
    network = star([0.2, 0.2])
    open_ = torch.ones(30, 2, 1, dtype=F64)
    open_[5:, 0] = 0.0
    made = firms.rollout(network, firms.Parameters(4.0, 1e9), transport=open_).output[..., 0]
    assert torch.allclose(made[:10, 0], network.output[0].expand(10)), "orders of step 5 would have been served in step 6"
    assert float(made[10:, 0].max()) < 1e-9
    assert torch.allclose(made[6:10, 1], network.final_demand[1].expand(4)), "its supplier sells to final demand only"
    assert torch.allclose(made[:10, 2], network.output[2].expand(10), rtol=1e-8)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (dict(size=1.5, rate=0.1), r"size must lie in \[0, 1\], got \[1.5, 1.5\]"),
        (dict(size=0.5, rate=-0.1), r"rate must be >= 0, got -0.1"),
        (dict(size=0.5, rate=0.1, soft_onset=-1.0), r"soft_onset must be >= 0 steps, got -1.0"),
    ],
)
def test_shocks_out_of_range_are_named(how: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        firms.exponential(5, onset=1, **how)
