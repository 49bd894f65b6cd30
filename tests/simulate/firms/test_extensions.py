"""Extensions of the step: each in its limit is the plain step, keeps the network at rest, conserves what it moves, and has the gradient of its differences;
so have all of them together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dpsc.errors import DtypeError, ExactJumpError, InputError, ShapeError
from dpsc.relax import Exact, Logistic, Smoothed
from dpsc.simulate import firms
from dpsc.simulate.firms import prices, products

STEPS = 30
F64 = torch.float64


@pytest.fixture(scope="module")
def network() -> firms.Network:
    return firms.synthetic(25, degree=4.0, seed=2)


PARAMETERS = firms.Parameters(inventory=3.0, adjustment_time=6.0, capacity=1.2)
ON_CAPACITY = firms.Rules(shock_on_stock=False)


def hit(network: firms.Network, size: float | Tensor = 0.7) -> Tensor:
    """Every third firm loses a share of its productivity at step 3, `(T, M, 2)`; the second column a half of it."""
    lost = torch.where(torch.arange(network.firms) % 3 == 0, size * torch.ones(network.firms, dtype=F64), 0.0)
    return 1 - firms.exponential(STEPS, onset=3, size=torch.stack([lost, lost / 2], 1), rate=0.1)


def plain(network: firms.Network, productivity: Tensor, rules: firms.Rules | None = None) -> Tensor:
    """The step itself, one after the other."""
    state, made = firms.start(network, PARAMETERS, batch=productivity.shape[2]), []
    for z in productivity:
        state, flow = firms.step(state, network, PARAMETERS, firms.Shock(z), rules=rules)
        made.append(flow.output)
    return torch.stack(made)


def run(network: firms.Network, z: Tensor, *extensions: firms.Extension, parameters: firms.Parameters = PARAMETERS, **how: Any) -> firms.Run:
    return firms.rollout(network, parameters, productivity=z, extensions=extensions, **how)


def calm(network: firms.Network) -> Tensor:
    return torch.ones(STEPS, network.firms, 1, dtype=F64)


def against_differences(total: Callable[[Tensor], Tensor], x: list[float]) -> None:
    at = torch.tensor(x, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(total, (at,), eps=1e-7, atol=1e-5, rtol=1e-5)
    (g,) = torch.autograd.grad(total(at), at)
    assert float(g.abs().min()) > 0, "each of them matters"


# ------------------------------------------------------------------------------------------------------------- prices


def test_constant_costs_keep_prices_and_give_the_plain_step(network: firms.Network) -> None:
    made = run(network, hit(network), firms.Prices(lag=3.0))
    assert torch.equal(made.output, plain(network, hit(network)))
    assert torch.allclose(made.seen["price"], torch.ones_like(made.output), rtol=1e-13)


def test_a_lasting_cost_ends_at_the_price_equation(network: firms.Network) -> None:
    cost = prices.own_cost(network) * torch.where(torch.arange(25) % 4 == 0, 1.3, 1.0)[:, None]
    wanted = torch.linalg.solve(torch.eye(25, dtype=F64) - network.dense().T, cost)
    assert torch.allclose(prices.at_rest(network, cost), wanted, rtol=1e-13)
    end = firms.rollout(network, PARAMETERS, horizon=600, extensions=[firms.Prices(cost=cost, lag=4.0)]).seen["price"][-1]
    assert torch.allclose(end, wanted, rtol=1e-12)
    # At once, after three steps, the series to its third term.
    once = firms.rollout(network, PARAMETERS, horizon=3, extensions=[firms.Prices(cost=cost)]).seen["price"][-1]
    A = network.dense().T
    assert torch.allclose(once, cost + A @ (cost + A @ (cost + A @ torch.ones_like(cost))), rtol=1e-13)
    by_step = torch.stack([cost, cost, prices.own_cost(network)])
    again = firms.rollout(network, PARAMETERS, horizon=3, extensions=[firms.Prices(cost=by_step)]).seen["price"][-1]
    assert torch.allclose(again, prices.own_cost(network) + A @ (cost + A @ (cost + A @ torch.ones_like(cost))), rtol=1e-13)


def test_dear_goods_are_bought_less_and_scarce_ones_get_dear(network: firms.Network) -> None:
    z = hit(network, 0.9)
    calm = run(network, z, firms.Prices(scarcity=0.0))
    scarce = run(network, z, firms.Prices(scarcity=0.5, elasticity=0.8))
    assert float(scarce.seen["price"].max()) > 1.05
    assert float(calm.seen["price"].max()) < 1 + 1e-12
    dearest = int(scarce.seen["price"][7, :, 0].argmax())
    assert float(scarce.demand[8, dearest, 0]) < float(run(network, z).demand[8, dearest, 0])
    asked = prices.final_demand(torch.tensor([[2.0]]), torch.tensor([[1.25]]), torch.tensor([[0.5]]))
    assert asked.item() == pytest.approx(2 / 1.25**0.5)


def test_gradient_of_prices(network: firms.Network) -> None:
    def total(x: Tensor) -> Tensor:
        rising = firms.Prices(cost=prices.own_cost(network) * x[0], elasticity=x[1], lag=1 + x[2], scarcity=x[3])
        made = run(network, hit(network)[:10, :, :1], rising, check=False)
        return made.output.sum() + made.seen["price"].sum()

    against_differences(total, [1.13, 0.7, 1.9, 0.31])


def test_prices_that_are_none_are_named(network: firms.Network) -> None:
    with pytest.raises(InputError, match=r"lag must be >= 1, got 0.5"):
        firms.Prices(lag=0.5)
    with pytest.raises(InputError, match=r"elasticity must be >= 0, got -1"):
        firms.Prices(elasticity=torch.tensor([-1.0, 0.0]))
    dear = firms.Network.of(torch.tensor([0]), torch.tensor([1]), torch.tensor([1.5], dtype=F64), torch.ones(2, dtype=F64))
    with pytest.raises(InputError, match=r"coefficients are value shares\), but firm 1 buys 1.5 a unit"):
        firms.rollout(dear, PARAMETERS, horizon=2, extensions=[firms.Prices()])
    with pytest.raises(ShapeError, match=r"cost must have a row for every step of the run, got 3 rows and step 3"):
        firms.rollout(network, PARAMETERS, horizon=5, extensions=[firms.Prices(cost=torch.ones(3, 25, 1, dtype=F64))])


# --------------------------------------------------------------------------------------------------------------- lags


def test_lags_of_zero_are_the_plain_step(network: firms.Network) -> None:
    made = run(network, hit(network), firms.Lags(torch.zeros(network.edges, dtype=torch.int64)))
    assert torch.equal(made.output, plain(network, hit(network)))
    assert float(made.seen["under_way"].abs().max()) == 0
    rest = run(network, calm(network), firms.Lags(torch.arange(network.edges) % 3))
    assert torch.allclose(rest.output[-1, :, 0], network.output, rtol=1e-12)
    assert torch.allclose(rest.seen["under_way"][-1], rest.seen["under_way"][0], rtol=1e-12)


def test_goods_under_way_are_conserved_and_arrive_in_time(network: firms.Network) -> None:
    extensions = [firms.Lags(torch.arange(network.edges) % 4)]
    state: Any = firms.rollout(network, PARAMETERS, productivity=hit(network)[:1], extensions=extensions).state
    for z in hit(network)[1:]:
        before = state
        made = firms.rollout(network, PARAMETERS, productivity=z[None], extensions=extensions, state=before)
        state = made.state
        served = made.output[0] / made.demand[0]
        gained = network.received(served[network.supplier] * before.firms.order) - state.firms.use
        held = state.firms.stock + network.received(state.own[0][0].sum(0)) - before.firms.stock - network.received(before.own[0][0].sum(0))
        assert torch.allclose(held, gained, atol=1e-12)
    # A supplier stops at step 3: its buyer's stock is untouched for as many steps as the goods are under way.
    chain = firms.Network.of(torch.tensor([0]), torch.tensor([1]), torch.tensor([0.5], dtype=F64), torch.ones(2, dtype=F64))
    z = torch.ones(12, 2, 1, dtype=F64)
    z[3:, 0] = 0
    way, states = [firms.Lags(torch.tensor([2]))], []
    now: Any = None
    for step in z:
        now = firms.rollout(chain, PARAMETERS, productivity=step[None], extensions=way, state=now).state
        states.append(float(now.firms.stock[0, 0]))
    assert states[:5] == pytest.approx([states[0]] * 5)
    assert states[5] == pytest.approx(states[0] - 0.5)


def test_gradient_with_lags(network: firms.Network) -> None:
    lag = torch.arange(network.edges) % 3

    def total(x: Tensor) -> Tensor:
        parameters = firms.Parameters(inventory=2 + x[0], adjustment_time=4 + x[1], capacity=1.2)
        made = run(network, 1 - x[2] * (1 - hit(network)[:12, :, :1]), firms.Lags(lag), parameters=parameters, check=False)
        return made.output.sum() + made.seen["under_way"].sum()

    against_differences(total, [0.31, 1.7, 1.05])


def test_lags_that_are_none_are_named(network: firms.Network) -> None:
    for lag, error, text in (
        (torch.zeros(3, dtype=torch.int64), ShapeError, r"lag must have shape \(E,\)"),
        (torch.zeros(network.edges), DtypeError, r"whole steps\), got dtype torch.float32"),
        (-(torch.arange(network.edges) == 2).long(), InputError, r"lag must be >= 0 steps, got -1 on edge 2"),
    ):
        with pytest.raises(error, match=text):
            run(network, hit(network), firms.Lags(lag))
    way = firms.Lags(torch.ones(network.edges, dtype=torch.int64))
    with pytest.raises(InputError, match=r"orders that are placed last"):
        run(network, hit(network), way, rules=firms.Rules(order_first=True))
    with pytest.raises(InputError, match=r"at most one extension can hold deliveries back, got Lags, Lags"):
        run(network, hit(network), way, way)


# ------------------------------------------------------------------------------------------------------------- labour


def test_without_hiring_and_firing_a_full_firm_is_the_plain_one(network: firms.Network) -> None:
    made = run(network, hit(network), firms.Labour(0.0, 0.0, workers=1.2))
    assert torch.equal(made.output, plain(network, hit(network), ON_CAPACITY))
    assert torch.equal(made.seen["workers"], torch.full_like(made.output, 1.2))


def test_labour_at_rest_and_at_once(network: firms.Network) -> None:
    rest = run(network, calm(network), firms.Labour(0.1, 0.2))
    assert torch.allclose(rest.output[-1, :, 0], network.output, rtol=1e-12)
    assert torch.allclose(rest.seen["workers"], torch.ones_like(rest.output), rtol=1e-12)
    at_once = [firms.Labour(1.0, 1.0)]
    before: Any = firms.rollout(network, PARAMETERS, productivity=hit(network)[:6], extensions=at_once).state
    after = firms.rollout(network, PARAMETERS, productivity=hit(network)[6:7], extensions=at_once, state=before).seen["workers"][0]
    by_stock = network.lowest(before.firms.stock / network.recipe[:, None])
    wanted = torch.minimum(torch.minimum(before.firms.demand, by_stock) / network.output[:, None], torch.tensor(1.2, dtype=F64))
    assert torch.allclose(after, wanted, rtol=1e-12)


def test_slow_hiring_costs_output(network: firms.Network) -> None:
    totals = [float(run(network, hit(network), firms.Labour(h, 0.5)).output.sum()) for h in (0.02, 0.2, 1.0)]
    assert totals[0] < totals[1] < totals[2]


def test_gradient_of_labour(network: firms.Network) -> None:
    def total(x: Tensor) -> Tensor:
        made = run(network, hit(network)[:12, :, :1], firms.Labour(x[0], x[1], workers=x[2]))
        return made.output.sum() + made.seen["workers"].sum()

    against_differences(total, [0.13, 0.27, 1.03])


def test_rates_that_are_none_are_named(network: firms.Network) -> None:
    with pytest.raises(InputError, match=r"hiring must lie in \[0, 1\], got 1.5"):
        firms.Labour(1.5, 0.0)
    empty = firms.Network.of(torch.tensor([0]), torch.tensor([1]), torch.tensor([0.5], dtype=F64), torch.tensor([1.0, 1, 0], dtype=F64))
    made = firms.rollout(empty, PARAMETERS, horizon=5, extensions=[firms.Labour(0.5, 0.5)])
    assert bool(torch.isfinite(made.seen["workers"]).all()), "a firm without output keeps its workers"


# ------------------------------------------------------------------------------------------------------ exit and entry

ACCOUNTS: dict[str, Any] = {"margin": 0.4, "surplus": 0.1, "reserve": 0.5}


def test_without_fixed_costs_nobody_closes(network: firms.Network) -> None:
    made = run(network, hit(network), firms.Entry(margin=0.3, surplus=0.3, reserve=0.5, entry=0.1))
    assert torch.equal(made.output, plain(network, hit(network)))
    assert float(made.seen["open"].min()) == 1
    rest = run(network, calm(network), firms.Entry(**ACCOUNTS))
    assert torch.allclose(rest.seen["cash"][-1, :, 0], 0.5 * network.output, rtol=1e-12)


def test_a_firm_closes_when_its_cash_is_gone_and_is_replaced() -> None:
    # One firm alone, stopped at step 3: it loses margin - surplus = .3 a step of its .5 in cash, and closes in the second step.
    none = torch.zeros(0, dtype=torch.int64)
    alone = firms.Network.of(none, none, torch.zeros(0, dtype=F64), torch.ones(1, dtype=F64))
    z = torch.ones(12, 1, 1, dtype=F64)
    z[3:6] = 0
    gone = run(alone, z, firms.Entry(**ACCOUNTS, entry=0.0))
    assert gone.seen["open"].flatten().tolist() == [1, 1, 1, 1, *[0] * 8]
    assert float(gone.seen["cash"][3]) == pytest.approx(0.2)
    assert float(gone.output[6:].sum()) == 0
    back = run(alone, z, firms.Entry(**ACCOUNTS, entry=0.5))
    assert float(back.seen["open"][4]) == 0.5
    assert float(back.output[-1]) == pytest.approx(1, abs=0.02)
    assert float(run(alone, z, firms.Entry(**ACCOUNTS, entry=1.0)).seen["open"].min()) == 1


def test_an_exit_has_no_exact_gradient_and_a_smooth_one(network: firms.Network) -> None:
    def total(x: Tensor, relax: Any) -> Tensor:
        return run(network, hit(network)[:8, :, :1], firms.Entry(margin=0.4, surplus=x[1], reserve=x[0], entry=x[2]), relax=relax).output.sum()

    with pytest.raises(ExactJumpError):
        total(torch.tensor([0.5, 0.1, 0.1], dtype=F64, requires_grad=True), Exact()).backward()
    against_differences(lambda x: total(x, Smoothed(Logistic(0.1))), [0.53, 0.11, 0.13])


def test_accounts_that_are_none_are_named(network: firms.Network) -> None:
    with pytest.raises(InputError, match=r"reserve must be > 0, or every firm closes at once, got 0"):
        firms.Entry(margin=0.4, surplus=0.1, reserve=0.0)
    with pytest.raises(InputError, match=r"surplus must be at most the margin, or fixed costs are negative, got a difference of -0.1"):
        run(network, calm(network), firms.Entry(margin=0.4, surplus=0.5, reserve=1.0))


# --------------------------------------------------------------------------------------------------------- rebuilding


def works(network: firms.Network, size: float | Tensor = 2.0, time: float | Tensor = 8.0, horizon: int = STEPS, **how: Any) -> firms.Rebuilding:
    """Every third firm loses `size` steps of its output of the 5 that its capital is worth; the ten last firms build."""
    destroyed = torch.where(torch.arange(network.firms) % 3 == 0, size * network.output, 0.0)
    builders = 0.1 * (torch.arange(network.firms) >= network.firms - 10).to(F64)
    series = firms.destruction(horizon, onset=how.pop("onset", 3), size=destroyed, **how)
    return firms.Rebuilding(series, capital=5 * network.output, builders=builders, time=time)


def test_nothing_destroyed_is_the_plain_step(network: firms.Network) -> None:
    made = run(network, hit(network), works(network, 0.0))
    assert torch.equal(made.output, plain(network, hit(network)))
    assert float(made.seen["missing"].abs().max()) == 0


def test_never_rebuilt_is_a_loss_for_good(network: firms.Network) -> None:
    made = run(network, calm(network), works(network, 2.0, torch.inf))
    lost = 0.4 * (torch.arange(25) % 3 == 0).to(F64)
    for_good = run(network, 1 - firms.exponential(STEPS, onset=3, size=lost, rate=0.0))
    assert torch.allclose(made.output, for_good.output, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("order_first", [False, True])
def test_capital_is_missing_or_was_delivered(network: firms.Network, order_first: bool) -> None:
    z = hit(network)[..., :1]
    extensions = [works(network), firms.Prices(scarcity=0.3, elasticity=0.5)]
    made = run(network, z, *extensions, rules=firms.Rules(order_first=order_first))
    missing = made.seen["missing"].sum(1)[:, 0]
    assert float(missing[2]) == 0
    assert float(missing[3:].max()) <= float(2 * network.output[::3].sum()) * (1 + 1e-12)
    assert bool((missing[3:].diff() <= 1e-12).all())
    assert float(missing[-1]) < 0.5 * float(missing[3])
    plain_final = run(network, z, firms.Prices(scarcity=0.3, elasticity=0.5), rules=firms.Rules(order_first=order_first)).final
    assert float((made.demand - run(network, z).demand)[6, -10:].min()) > 0, "builders are asked for more"
    assert plain_final.shape == made.final.shape


def test_a_builder_that_always_delivers_rebuilds_a_fixed_share_a_step() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    pair = firms.Network.of(none, none, torch.zeros(0, dtype=F64), torch.tensor([1.0, 100.0], dtype=F64))
    event = firms.Rebuilding(
        firms.destruction(20, onset=2, size=torch.tensor([4.0, 0.0], dtype=F64)), capital=5.0, builders=torch.tensor([0.0, 1.0], dtype=F64), time=4.0
    )
    made = firms.rollout(pair, PARAMETERS, horizon=20, extensions=[event], rules=firms.Rules(order_first=True))
    left = made.seen["missing"][:, 0, 0]
    assert left[:2].tolist() == [0, 0]
    assert torch.allclose(left[2:], 4 * 0.75 ** torch.arange(1, 19, dtype=F64), rtol=1e-12)
    assert torch.allclose(made.output[2:, 0, 0], (1.2 * (1 - 0.8 * 0.75 ** torch.arange(18, dtype=F64))).clamp_max(1), rtol=1e-12)
    assert torch.allclose(made.final[2:, 1, 0] - 100, 0.75 ** torch.arange(18, dtype=F64), rtol=1e-10), "what is built is delivered"


def test_gradient_of_rebuilding(network: firms.Network) -> None:
    def total(x: Tensor) -> Tensor:
        event = works(network, x[0], 7 * x[1], 14, onset=3 + x[2], soft_onset=2.0)
        made = firms.rollout(network, PARAMETERS, horizon=14, extensions=[event])
        return made.output.sum() + made.seen["missing"].sum()

    against_differences(total, [2.2, 1.03, 0.37])


def test_works_that_are_none_are_named(network: firms.Network) -> None:
    with pytest.raises(InputError, match=r"destroyed must add up to at most the capital of each firm, got .* more in firm 0"):
        run(network, calm(network), works(network, 6.0))
    good: dict[str, Any] = {"destroyed": torch.zeros(3, 25, 1, dtype=F64), "capital": 1.0, "builders": torch.full((25,), 0.04, dtype=F64)}
    for change, error, text in (
        ({"destroyed": torch.zeros(3, 25)}, ShapeError, r"destroyed must have shape \(T, M, B\), got \(3, 25\)"),
        ({"builders": torch.ones(25)}, InputError, r"builders must hold shares that add up to 1, got 25"),
        ({"time": 0.0}, InputError, r"time must be > 0, got 0"),
        ({"builders": torch.tensor([1.0])}, ShapeError, r"builders must have shape \(M,\) = \(25,\), got \(1,\)"),
    ):
        with pytest.raises(error, match=text):
            firms.rollout(network, PARAMETERS, horizon=3, extensions=[firms.Rebuilding(**(good | change))])


# ----------------------------------------------------------------------------------------------------------- together


def everything(network: firms.Network, *, at_their_limits: bool) -> list[firms.Extension]:
    if at_their_limits:
        still = torch.zeros(network.edges, dtype=torch.int64)
        return [
            works(network, 0.0), firms.Prices(), firms.Lags(still), firms.Labour(0.0, 0.0, workers=1.2), firms.Entry(margin=0.3, surplus=0.3, reserve=1.0)
        ]  # fmt: skip
    return [
        works(network), firms.Prices(elasticity=0.5, lag=2.0, scarcity=0.3), firms.Lags(torch.arange(network.edges) % 3), firms.Labour(0.2, 0.4),
        firms.Entry(margin=0.4, surplus=0.1, reserve=0.3, entry=0.05),
    ]  # fmt: skip


def test_all_together_in_their_limits_are_the_plain_step(network: firms.Network) -> None:
    made = run(network, hit(network), *everything(network, at_their_limits=True))
    assert torch.equal(made.output, plain(network, hit(network), ON_CAPACITY))
    assert set(made.seen) == {"missing", "price", "under_way", "workers", "cash", "open"}
    moved = run(network, hit(network), *everything(network, at_their_limits=False))
    for name, value in moved.seen.items():
        assert value.shape == moved.output.shape
        assert float((value[-1] - made.seen[name][-1]).abs().max()) > 1e-4, name


def test_all_together_a_batch_is_its_columns_a_restart_one_run_and_checkpoints_change_nothing(network: firms.Network) -> None:
    z, extensions = hit(network), everything(network, at_their_limits=False)
    whole = run(network, z, *extensions)
    for column in range(2):
        alone = run(network, z[..., column : column + 1], *extensions)
        assert torch.allclose(alone.output[..., 0], whole.output[..., column], rtol=1e-13)
    # Series of an extension start with the run: the second part has nothing destroyed any more.
    first = run(network, z[:11], *extensions)
    second = run(network, z[11:], works(network, 0.0), *extensions[1:], state=first.state)
    late = firms.Rebuilding(torch.zeros(19, 25, 1, dtype=F64), capital=5 * network.output, builders=extensions[0].builders, time=8.0)  # type: ignore[attr-defined]
    again = run(network, z[11:], late, *extensions[1:], state=first.state)
    assert torch.equal(second.output, again.output)
    assert torch.allclose(torch.cat([first.output, again.output]), whole.output, rtol=1e-13)
    assert torch.allclose(torch.cat([first.seen["price"], again.seen["price"]]), whole.seen["price"], rtol=1e-13)
    leaf = torch.tensor(2.0, dtype=F64, requires_grad=True)
    grads = []
    for memory in (1e12, 0.0):
        made = run(network, z, works(network, leaf), *extensions[1:4], memory=memory)
        grads.append(float(torch.autograd.grad(made.output.sum() + made.seen["price"].sum(), leaf)[0]))
    assert grads[0] == pytest.approx(grads[1], rel=1e-12)
    assert grads[0] != 0


def test_what_does_not_go_together_is_named(network: firms.Network) -> None:
    with pytest.raises(InputError, match=r"extensions must keep series of different names, got 'price' twice"):
        run(network, hit(network), firms.Prices(), firms.Prices())
    with pytest.raises(InputError, match=r"extensions must be made from dpsc.simulate.firms.Extension, got float"):
        run(network, hit(network), 0.3)  # type: ignore[arg-type]
    state = run(network, hit(network), firms.Prices()).state
    with pytest.raises(InputError, match=r"a run that goes on must have the extensions that it had, got 0 extensions and a state of 1"):
        run(network, hit(network), state=state)


# ----------------------------------------------------------------------------------------------------------- products


def test_one_product_a_firm_is_leontief(network: firms.Network) -> None:
    z = hit(network)
    shared = firms.Rules(production=products.SharedCapacity(torch.arange(network.firms)))
    assert torch.allclose(plain(network, z, shared), plain(network, z), rtol=1e-12)


def test_capacity_goes_where_it_is_wanted() -> None:
    # Two products of one firm, each 1 unit at rest, capacity 1.2 each. Nobody wants the first any more, and 2 of the second: alone it makes 1.2, together 2.
    pair = firms.Network.of(
        torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    )
    wanted = torch.tensor([[0.0], [2.0]], dtype=torch.float64).expand(4, 2, 1)
    alone = firms.rollout(pair, PARAMETERS, final_demand=wanted)
    together = firms.rollout(pair, PARAMETERS, final_demand=wanted, rules=firms.Rules(production=products.SharedCapacity(torch.zeros(2, dtype=torch.int64))))
    assert alone.output[-1, :, 0].tolist() == pytest.approx([0, 1.2])
    assert together.output[-1, :, 0].tolist() == pytest.approx([0, 2.0])
    much = firms.rollout(pair, PARAMETERS, final_demand=2 * wanted, rules=firms.Rules(production=products.SharedCapacity(torch.zeros(2, dtype=torch.int64))))
    assert much.output[-1, :, 0].tolist() == pytest.approx([0, 2.4])


def test_the_capacity_of_a_firm_is_never_exceeded(network: firms.Network) -> None:
    firm = torch.arange(network.firms) // 3
    z = hit(network)
    made = plain(network, z, firms.Rules(production=products.SharedCapacity(firm)))
    room = 1.2 * network.output[:, None] * z
    by_firm = [torch.zeros(STEPS, int(firm.max()) + 1, 2, dtype=torch.float64).index_add(1, firm, v) for v in (made, room)]
    assert bool((by_firm[0] <= by_firm[1] + 1e-12).all())


def test_gradient_of_shared_capacity(network: firms.Network) -> None:
    rules = firms.Rules(production=products.SharedCapacity(torch.arange(network.firms) // 2))

    def total(x: Tensor) -> Tensor:
        parameters = firms.Parameters(inventory=2 + x[0], adjustment_time=6.0, capacity=1 + x[1])
        return firms.rollout(network, parameters, productivity=1 - x[2] * (1 - hit(network)[:12]), rules=rules, check=False).output.sum()

    against_differences(total, [0.37, 0.13, 0.9])


def test_what_is_no_firm_is_named(network: firms.Network) -> None:
    with pytest.raises(ShapeError, match=r"firm must be \(M,\) integers, got torch.float32"):
        products.SharedCapacity(torch.zeros(3))
    with pytest.raises(ShapeError, match=r"firm must have shape \(M,\) = \(25,\), one entry a product, got \(3,\)"):
        plain(network, hit(network), firms.Rules(production=products.SharedCapacity(torch.zeros(3, dtype=torch.int64))))
