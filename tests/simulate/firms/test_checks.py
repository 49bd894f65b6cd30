"""What must be true of any run of a firm network, whatever the numbers: balances, limits, causality, closed forms."""

from __future__ import annotations

import functools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dpsc.relax import Exact, Logistic, Smoothed, StraightThrough
from dpsc.simulate import firms

F64 = torch.float64
stepwise = firms.Rules(production=functools.partial(firms.leontief))


@pytest.fixture(scope="module")
def network() -> firms.Network:
    return firms.synthetic(120, degree=6, seed=2)


@pytest.fixture(scope="module")
def drawn() -> tuple[Tensor, Tensor, Tensor]:
    return firms.draw(120, seed=3)


def run(network: firms.Network, n: Any, z: Tensor | None = None, **how: Any) -> firms.Run:
    return firms.rollout(network, firms.Parameters(n, how.pop("tau", 10.0), how.pop("capacity", 1.2), how.pop("needed", 1.0)), productivity=z, **how)


def struck(drawn: tuple[Tensor, Tensor, Tensor], horizon: int = 60, factor: float = 1.0) -> Tensor:
    _, rate, size = drawn
    return 1 - firms.exponential(horizon, onset=5, size=factor * size, rate=rate)


def of_edges(edges: list[tuple[int, int, float]], final: list[float], **more: Any) -> firms.Network:
    supplier, buyer, a = zip(*edges, strict=True) if edges else ((), (), ())
    return firms.Network.of(
        torch.tensor(supplier, dtype=torch.int64), torch.tensor(buyer, dtype=torch.int64), torch.tensor(a, dtype=F64), torch.tensor(final, dtype=F64), **more
    )


def test_01_output_at_rest_is_the_leontief_inverse(network: firms.Network) -> None:
    exact = torch.linalg.solve(torch.eye(120, dtype=F64) - network.dense(), network.final_demand)
    solved = firms.Network.of(network.supplier, network.buyer, network.coefficient, network.final_demand)
    for x in (network.output, solved.output):
        assert float((x / exact - 1).abs().max()) < 5e-15


@pytest.mark.parametrize(("dtype", "drift"), [(F64, 1e-14), (torch.float32, 2e-6)])
def test_02_without_a_shock_nothing_moves(network: firms.Network, drawn: Any, dtype: torch.dtype, drift: float) -> None:
    output = run(network.to(dtype), drawn[0].to(dtype), horizon=5000).output
    assert float((output[..., 0] / network.output.to(dtype) - 1).abs().max()) < drift


def test_03_sparse_is_dense(network: firms.Network, drawn: Any) -> None:
    n, z = drawn[0], struck(drawn)[..., 0]
    A, c, x0 = network.dense(), network.final_demand, network.output
    S = target = n * A * x0
    orders, D = A * x0, x0
    for t, made in enumerate(run(network, n, z[..., None]).output[..., 0]):
        allowed = torch.where(A > 0, S / torch.where(A > 0, A, 1.0), torch.inf).amin(0)
        x = torch.minimum(D, z[t] * torch.minimum(1.2 * x0, allowed))
        assert float((made / x - 1).abs().max()) < 1e-13
        S = S + (x / D)[:, None] * orders - A * x
        orders = (A * D + (target - S) / 10).clamp_min(0)
        D = c + orders.sum(1)


def test_04_names_do_not_matter(network: firms.Network, drawn: Any) -> None:
    order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
    moved = run(network.reordered(order), drawn[0][order], struck(drawn)[:, order]).output
    assert float((moved / run(network, drawn[0], struck(drawn)).output[:, order] - 1).abs().max()) < 1e-13
    renumbered, back = network.renumbered()
    assert torch.equal(renumbered.output, network.output[back])
    assert bool((torch.diff(torch.diff(renumbered.supplier_pointer)) <= 0).all())


def test_05_units_do_not_matter(network: firms.Network, drawn: Any) -> None:
    scaled = firms.Network.of(network.supplier, network.buyer, network.coefficient, 2.7 * network.final_demand)
    assert float((run(scaled, drawn[0], struck(drawn)).output / (2.7 * run(network, drawn[0], struck(drawn)).output) - 1).abs().max()) < 1e-13


@pytest.mark.parametrize("where", [slice(None), slice(20)])
def test_08_a_permanent_change_of_final_demand_ends_at_its_own_rest(network: firms.Network, drawn: Any, where: slice) -> None:
    c = network.final_demand.clone()
    c[where] *= 0.99 if where == slice(None) else 0.5
    last = run(network, drawn[0], final_demand=c[None, :, None].expand(3000, -1, 1)).output[-1, :, 0]
    exact = torch.linalg.solve(torch.eye(120, dtype=F64) - network.dense(), c)
    assert float((last / exact - 1).abs().max()) < 1e-13


def test_09_gradients_are_differences(network: firms.Network, drawn: Any) -> None:
    _, rate, size = drawn
    n = 0.5 * drawn[0]

    def loss(n: Tensor, rate: Tensor) -> Tensor:  # columns are copies
        z = 1 - firms.exponential(60, onset=5, size=size, rate=rate)
        return (run(network, n, z).output.sum(1) / network.output.sum() - 0.95).square().sum(0)

    leaves = [n.clone().requires_grad_(), rate.clone().requires_grad_()]
    h, off = 1e-6, []
    for k, gradient in enumerate(torch.autograd.grad(loss(*leaves).sum(), leaves)):
        largest = gradient.abs().argsort(descending=True)[:10]
        copies = [leaf.detach()[:, None].expand(-1, 20).clone() for leaf in leaves]
        copies[k][largest, torch.arange(10)] += h
        copies[k][largest, torch.arange(10, 20)] -= h
        up, down = loss(*copies).split(10)
        off += ((up - down) / (2 * h) / gradient[largest] - 1).abs().tolist()
    assert len(off) == 20
    assert max(off) < 3e-8, "none of these straddles a kink"


def test_10_a_larger_shock_costs_more(network: firms.Network, drawn: Any) -> None:
    total = [float(run(network, drawn[0], struck(drawn, factor=f)).output.sum()) for f in (0.0, 0.25, 0.5, 1.0)]
    assert total[0] > total[1] > total[2] > total[3]


PARTS: dict[str, tuple[firms.Rules, bool]] = {
    "paper": (firms.Rules(), False),
    "order first, shock on capacity, target that moves": (firms.Rules(order_first=True, shock_on_stock=False, moving_target=True), False),
    "firms first": (firms.Rules(rationing=firms.firms_first), False),
    "mixed": (firms.Rules(rationing=firms.mixed(0.5, firms.proportional, firms.firms_first)), False),
    "constant elasticity": (firms.Rules(production=firms.CES(0.7)), False),
    "what was used": (firms.Rules(ordering=firms.replace_use), False),
    "products, switching": (firms.Rules(ordering=firms.Switching(2.0)), True),
}


def parts(name: str, network: firms.Network) -> tuple[firms.Rules, firms.Network]:
    rules, products = PARTS[name]
    if products:
        made = torch.arange(network.firms) % 7
        network = firms.Network.of(network.supplier, network.buyer, network.coefficient, network.final_demand, product=made)
    return rules, network


@pytest.mark.parametrize("name", [*PARTS, "priority", "not all critical", "edges closed"])
def test_11_and_12_goods_are_conserved_and_nothing_is_negative(network: firms.Network, drawn: Any, name: str) -> None:
    n, z = 0.5 * drawn[0], struck(drawn)
    transport = None
    if name == "priority":
        rules = firms.Rules(rationing=firms.random_priority(network, seed=1))
    elif name == "not all critical":
        rules = firms.Rules(production=firms.partly_binding((torch.arange(network.inputs) % 3).double() / 2))
    elif name == "edges closed":
        rules = firms.Rules()
        transport = (torch.arange(network.edges) % 5 > 0).double()[:, None]
    else:
        rules, network = parts(name, network)
    parameters = firms.Parameters(n, 4.0)
    state = firms.start(network, parameters)
    short = False
    for t in range(40):
        before = state
        state, flow = firms.step(state, network, parameters, firms.Shock(z[t], transport=transport), rules=rules)
        sent = network.demanded(flow.delivered) + flow.final
        assert torch.allclose(sent, flow.output, rtol=1e-12, atol=1e-13), "what a firm makes is delivered"
        assert torch.allclose(state.stock - before.stock, network.received(flow.delivered) - flow.use, rtol=0, atol=1e-12), "what arrives and is not used stays"
        served = before.order if not rules.order_first else state.order
        assert float((flow.delivered - served).max()) <= 1e-12
        assert min(float(v.min()) for v in (flow.delivered, flow.final, flow.output, flow.use, state.order)) >= -1e-15
        assert float(state.stock.min()) >= -1e-13
        assert float((flow.output - torch.minimum(flow.demand, z[t] * 1.2 * network.output[:, None])).max()) <= 1e-12
        short = short or bool((flow.output < 0.99 * flow.demand).any())
    assert short


def test_13_nothing_knows_the_future_and_shocks_travel_one_tier_after_stocks(network: firms.Network, drawn: Any) -> None:
    z = struck(drawn).clone().requires_grad_()
    made = run(network, 0.5 * drawn[0], z).output
    for t in (0, 7, 20):
        (g,) = torch.autograd.grad(made[t].sum(), z, retain_graph=True)
        assert float(g[t + 1 :].abs().max()) == 0
        assert float(g[: t + 1].abs().max()) > 0
    chain = of_edges([(0, 1, 0.5), (1, 2, 0.5), (2, 3, 0.5)], [1.0] * 4)
    stop = torch.ones(40, 4, 1, dtype=F64)
    stop[5:, 0] = 0.0
    fell = (run(chain, 3.0, stop, tau=1e9).output[..., 0] < chain.output * (1 - 1e-12)).double().argmax(0).tolist()
    assert fell == [5, 8, 11, 14], "3 steps of stock a tier"


def test_13_goods_under_way_delay_each_tier_by_their_lag() -> None:
    chain = of_edges([(0, 1, 0.5), (1, 2, 0.5), (2, 3, 0.5)], [1.0] * 4)
    stop = torch.ones(40, 4, 1, dtype=F64)
    stop[5:, 0] = 0.0
    parameters = firms.Parameters(3.0, 1e9)
    for lag in ([0, 0, 0], [2, 0, 4], [1, 3, 2]):
        made = firms.rollout(chain, parameters, productivity=stop, extensions=[firms.Lags(torch.tensor(lag))]).output[..., 0]
        fell = (made < chain.output * (1 - 1e-12)).double().argmax(0).tolist()
        assert fell == [5, 8 + lag[0], 11 + sum(lag[:2]), 14 + sum(lag)], "3 steps of stock a tier, and what is under way"


def test_14_parts_that_are_not_connected_do_not_interact() -> None:
    two = of_edges([(0, 1, 0.5), (1, 0, 0.2), (2, 3, 0.4), (3, 2, 0.3)], [1.0, 2.0, 1.0, 3.0])
    z = torch.full((30, 4, 1), 0.6, dtype=F64, requires_grad=True)
    (g,) = torch.autograd.grad(run(two, 1.5, z).output[:, :2].sum(), z)
    assert float(g[:, 2:].abs().max()) == 0
    assert float(g[:, :2].abs().max()) > 0


def test_15_a_firm_in_two_halves_leaves_the_totals() -> None:
    whole = of_edges([(0, 1, 0.5), (1, 2, 0.3), (2, 0, 0.2), (1, 0, 0.1)], [1.0, 2.0, 1.5])
    halves = of_edges(
        [(0, 1, 0.5), (0, 3, 0.5), (1, 2, 0.15), (3, 2, 0.15), (2, 0, 0.2), (1, 0, 0.05), (3, 0, 0.05)],
        [1.0, 1.0, 1.5, 1.0],
        sector=torch.tensor([0, 1, 2, 1]),
    )
    z = torch.ones(60, 3, 1, dtype=F64)
    z[5:20, 1] = 0.2
    z[12:30, 0] = 0.5
    n = torch.tensor([2.0, 3.0, 1.5], dtype=F64)
    a = run(whole, n, z).output
    b = halves.by_sector(run(halves, n[[0, 1, 2, 1]], z[:, [0, 1, 2, 1]]).output)
    assert float((a / b - 1).abs().max()) < 1e-13
    assert float((a / whole.output[:, None]).min()) < 0.5


@pytest.mark.parametrize(("filled", "n", "first"), [(0.0, 5.0, 5), (0.5, 4.0, 7), (0.75, 6.0, 21)])
def test_16_a_chain_runs_out_when_the_stock_is_used_up(filled: float, n: float, first: int) -> None:
    pair = of_edges([(0, 1, 0.5)], [1.0, 1.0])
    z = torch.ones(60, 2, 1, dtype=F64)
    z[:, 0] = filled / 1.2  # the supplier can make this share of what it is asked for
    made = run(pair, n, z, tau=1e15).output[:, 1, 0] / pair.output[1]
    # A step takes 1 - r steps of use from the stock, and full production needs one: n - t (1 - r) < 1 from t > (n - 1) / (1 - r) on.
    assert first == math.floor((n - 1) / (1 - filled) + 1e-9) + 1
    assert int((made < 1 - 1e-9).double().argmax()) == first


def test_17_a_change_of_final_demand_is_passed_up_as_a_neumann_series(network: firms.Network) -> None:
    change = torch.zeros(120, dtype=F64)
    change[:10] = -0.3 * network.final_demand[:10]
    c = (network.final_demand + change)[None, :, None].expand(12, -1, 1)
    demand = run(network, 50.0, final_demand=c, tau=1e15, rules=firms.Rules(order_first=True)).demand[..., 0]
    term, total = change, torch.zeros_like(change)
    for t in range(12):
        total = total + term
        term = network.dense() @ term
        assert float((demand[t] - network.output - total).abs().max()) < 1e-12


def test_18_no_shock_and_a_shock_for_good() -> None:
    chain = of_edges([(0, 1, 0.5), (1, 2, 0.5)], [1.0, 1.0, 1.0, 1.0])
    hit = torch.tensor([0.0, 1.0, 0.0, 0.0], dtype=F64)
    rest = run(chain, 3.0, horizon=40).output
    for size, rate in ((0.0 * hit, 0.1), (hit, torch.inf)):
        assert torch.equal(run(chain, 3.0, 1 - firms.exponential(40, onset=3, size=size, rate=rate)).output, rest)
    for_good = run(chain, 3.0, 1 - firms.exponential(400, onset=3, size=hit, rate=0.0)).output[-1, :, 0]
    assert float(for_good[1]) == 0
    assert float(for_good[2]) < 1e-9
    assert float(for_good[0]) > 0.9
    assert float(for_good[3]) == float(chain.output[3])


def test_19_a_shock_that_stocks_outlast_is_not_felt_downstream() -> None:
    pair = of_edges([(0, 1, 0.5)], [1.0, 1.0])
    z = torch.ones(60, 2, 1, dtype=F64)
    z[10:14, 0] = 0.0
    assert float((run(pair, 6.0, z).output[:, 1, 0] / pair.output[1] - 1).abs().max()) < 1e-15
    assert float(run(pair, 3.0, z).output[:, 1, 0].min() / pair.output[1]) < 0.9


@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # torch's own forward mode
@pytest.mark.parametrize("beta", [0, 6])
def test_20_forward_and_reverse_are_transposes(beta: int) -> None:
    network, (n, rate, size) = firms.synthetic(25, degree=4, seed=5), firms.draw(25, seed=6)
    relax: Any = StraightThrough(Logistic(1 / beta)) if beta else Exact()
    generator = torch.Generator().manual_seed(0)

    def output(n: Tensor, z: Tensor, how: Any = None) -> Tensor:
        return firms.rollout(network, firms.Parameters(n, 5.0), productivity=z, relax=relax, check=False, rules=how).output

    def of_rate(n: Tensor, rate: Tensor, how: Any = None) -> Tensor:
        return output(n, 1 - firms.exponential(30, onset=3, size=size, rate=rate), how)

    primal = (0.4 * n + 0.6, rate)
    v = tuple(torch.randn(p.shape, generator=generator, dtype=F64) for p in primal)
    w = torch.randn(30, 25, 1, generator=generator, dtype=F64)
    made, forward = torch.func.jvp(of_rate, primal, v)
    _, slow = torch.func.jvp(functools.partial(of_rate, how=stepwise), primal, v)
    assert torch.allclose(made, of_rate(*primal))
    assert float((forward - slow).norm()) <= 1e-12 * float(slow.norm())
    leaves = [p.clone().requires_grad_() for p in primal]
    back = torch.autograd.grad((of_rate(*leaves) * w).sum(), leaves)
    left, right = float((forward * w).sum()), float(sum((a * b).sum() for a, b in zip(v, back, strict=True)))
    assert abs(left - right) <= 1e-12 * float(forward.norm() * w.norm())


@pytest.mark.parametrize("beta", [2.0, 10.0, 100.0])
def test_22_the_soft_minimum_tends_to_the_hard_one(network: firms.Network, beta: float) -> None:
    generator = torch.Generator().manual_seed(0)
    own = [torch.rand(120, 3, generator=generator, dtype=F64) + 0.1 for _ in range(2)]
    stock = torch.rand(network.inputs, 3, generator=generator, dtype=F64) + 0.1
    hard, soft = (firms.smallest(network, own, stock, relax=r) for r in (Exact(), Smoothed(Logistic(1 / beta))))
    assert torch.equal(hard, firms.smallest(network, own, stock, relax=StraightThrough(Logistic(1 / beta))))
    limits = torch.diff(network.pointer)[:, None] + 2
    error = (hard / soft).log()
    assert float(error.min()) >= 0
    assert bool((error <= limits.log() / beta + 1e-12).all())


def test_22_gradients_of_the_three_readings() -> None:
    network = of_edges([(0, 1, 0.5), (2, 1, 0.25)], [1.0, 1.0, 1.0])
    own, stock = torch.tensor([[2.0], [2.0], [3.0]], dtype=F64, requires_grad=True), torch.tensor([[1.0], [4.0]], dtype=F64, requires_grad=True)

    def slope(relax: Any) -> tuple[Tensor, Tensor]:
        a, b = torch.autograd.grad(firms.smallest(network, [own], stock, relax=relax)[1, 0], (own, stock))
        return a[:, 0], b[:, 0]

    a, b = slope(Exact())
    assert a.tolist() == [0, 0, 0]
    assert b.tolist() == [1, 0]
    weights = torch.tensor([2.0, 1.0, 4.0], dtype=F64) ** -3
    a, b = slope(StraightThrough(Logistic(1 / 3)))
    assert torch.allclose(torch.cat([a[1:2], b]), weights / weights.sum())
    assert torch.autograd.gradcheck(lambda a, b: firms.smallest(network, [a], b, relax=Smoothed(Logistic(0.3))), (own, stock))
    tie = torch.tensor([[1.0], [1.0]], dtype=F64, requires_grad=True)
    (g,) = torch.autograd.grad(firms.smallest(network, [torch.full((3, 1), 1.0, dtype=F64)], tie, relax=Exact())[1, 0], tie)
    assert torch.allclose(g[:, 0], torch.full((2,), 1 / 3, dtype=F64)), "ties share"


def test_25_a_shorter_step_is_the_same_economy() -> None:
    network, (n, rate, size) = firms.synthetic(40, degree=4, seed=8), firms.draw(40, seed=9)

    def cumulated(parts: int) -> Tensor:
        fine = firms.Network.of(network.supplier, network.buyer, network.coefficient, network.final_demand / parts)
        z = 1 - firms.exponential(40 * parts, onset=5.0 * parts, size=size, rate=rate / parts)
        made = run(fine, n * parts, z, tau=10.0 * parts, needed=1.0 * parts).output[..., 0]
        return made.reshape(40, parts, -1).sum(1).cumsum(0)[9::10]

    one, two, four, eight = (cumulated(k) for k in (1, 2, 4, 8))
    off = [float((a - b).norm() / b.norm()) for a, b in ((one, two), (two, four), (four, eight))]
    assert off[1] < 0.7 * off[0]
    assert off[2] < 0.7 * off[1]
    assert off[2] < 2e-3
