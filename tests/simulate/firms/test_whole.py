"""Whole runs: C++ kernels, plain kernels and the step under autograd are one program, forward and backward."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from dpsc.errors import InputError
from dpsc.relax import Exact, Logistic, StraightThrough
from dpsc.simulate import firms
from dpsc.simulate.firms import native
from dpsc.types import Relaxation

FIRMS, STEPS = 30, 26
stepwise = functools.partial(firms.leontief)  # another object, so that the run is taken step by step
ENGINES: dict[str, Any] = {"plain": firms.PLAIN, **({"native": firms.NATIVE} if native.available() else {})}


@pytest.fixture(scope="module")
def network() -> firms.Network:
    return firms.synthetic(FIRMS, degree=5, seed=3)


def leaves(network: firms.Network, batch: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(batch)
    n, rate, size = (v[:, None] * (0.9 + 0.2 * torch.rand(FIRMS, batch, generator=generator, dtype=torch.float64)) for v in firms.draw(FIRMS, seed=4))
    made = {
        "inventory": 0.4 * n + 0.6,
        "rate": rate,
        "size": size,
        "capacity": 1.05 + 0.3 * torch.rand(FIRMS, batch, generator=generator, dtype=torch.float64),
        "adjustment_time": torch.full((FIRMS, batch), 6.0, dtype=torch.float64),
        "needed": torch.full((FIRMS, batch), 1.1, dtype=torch.float64),
        "final": network.final_demand.double()[None, :, None] * (1 - 0.2 * torch.rand(STEPS, FIRMS, batch, generator=generator, dtype=torch.float64)),
    }
    return {name: value.to(dtype).requires_grad_() for name, value in made.items()}


def run(network: firms.Network, x: dict[str, Tensor], *, rules: firms.Rules | None = None, relax: Relaxation | None = None, **how: Any) -> firms.Run:
    z = 1 - firms.exponential(STEPS, onset=2, size=x["size"], rate=x["rate"])
    parameters = firms.Parameters(x["inventory"], x["adjustment_time"], x["capacity"], x["needed"])
    return firms.rollout(network, parameters, productivity=z, final_demand=x["final"], rules=rules, relax=relax, **how)


def scored(made: firms.Run, x: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """The gradient of something that looks at all results."""
    generator = torch.Generator().manual_seed(9)

    def weight(v: Tensor) -> Tensor:
        return torch.randn(v.shape, generator=generator, dtype=torch.float64).to(v)

    parts = (made.output, made.demand, made.final, made.state.stock, made.state.order, made.state.demand)
    return torch.autograd.grad(sum((weight(v) * v).sum() for v in parts), list(x.values()))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("order_first", [False, True])
@pytest.mark.parametrize("shock_on_stock", [False, True])
@pytest.mark.parametrize("beta", [0, 6, 64])
def test_kernels_are_the_step_under_autograd(network: firms.Network, engine: str, order_first: bool, shock_on_stock: bool, beta: int) -> None:
    relax: Relaxation = StraightThrough(Logistic(1 / beta)) if beta else Exact()
    rules = {"order_first": order_first, "shock_on_stock": shock_on_stock}
    x = leaves(network, 3)
    slow = run(network, x, relax=relax, rules=firms.Rules(production=stepwise, **rules))
    fast = run(network, x, relax=relax, rules=firms.Rules(**rules), kernels=ENGINES[engine])
    for name in ("output", "demand", "final"):
        assert torch.allclose(getattr(fast, name), getattr(slow, name), rtol=1e-12, atol=1e-14), name
    for name, a, b in zip(fast.state._fields, fast.state, slow.state, strict=True):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-13), name
    assert float((slow.output < 0.999 * slow.demand).double().mean()) > 0.05, "something must bind"
    for name, a, b in zip(x, scored(fast, x), scored(slow, x), strict=True):
        assert float(b.norm()) > 0, name
        assert float((a - b).norm()) <= 1e-11 * float(b.norm()), name


@pytest.mark.parametrize("engine", ENGINES)
def test_checkpoints_change_nothing(network: firms.Network, engine: str) -> None:
    x = leaves(network, 2)
    reference = scored(run(network, x, kernels=ENGINES[engine], memory=1e12), x)
    edge = network.edges * 2 * 8
    for memory in (0, 12 * edge, 20 * edge):
        found = scored(run(network, x, kernels=ENGINES[engine], memory=memory), x)
        assert all(float((a - b).norm()) <= 1e-12 * float(b.norm()) for a, b in zip(found, reference, strict=True))
    slow = firms.Rules(production=stepwise)
    found = scored(run(network, x, rules=slow, memory=0), x)
    assert all(float((a - b).norm()) <= 1e-11 * float(b.norm()) for a, b in zip(found, reference, strict=True))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("batch", [1, 2, 7, 23])
def test_a_batch_is_its_columns(network: firms.Network, engine: str, batch: int) -> None:
    x = leaves(network, batch)
    together = run(network, x, kernels=ENGINES[engine])
    gradient = torch.autograd.grad(together.output.square().sum(), list(x.values()))
    for column in (0, batch - 1):
        alone = {name: value[..., column : column + 1].detach().requires_grad_() for name, value in x.items()}
        single = run(network, alone, kernels=ENGINES[engine])
        assert torch.equal(single.output[..., 0], together.output[..., column])
        for a, b in zip(torch.autograd.grad(single.output.square().sum(), list(alone.values())), gradient, strict=True):
            assert torch.allclose(a[..., 0], b[..., column], rtol=1e-13, atol=0)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_number_of_threads_changes_nothing(network: firms.Network, engine: str) -> None:
    x, threads = leaves(network, 20), torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            made = run(network, x, kernels=ENGINES[engine])
            results.append((made.output, *torch.autograd.grad(made.output.square().sum(), list(x.values()))))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(other, results[0], strict=True))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("order_first", [False, True])
def test_a_restarted_run_is_one_run(network: firms.Network, engine: str, order_first: bool) -> None:
    x = leaves(network, 2)
    rules = firms.Rules(order_first=order_first)
    z = 1 - firms.exponential(STEPS, onset=2, size=x["size"], rate=x["rate"])
    parameters = firms.Parameters(x["inventory"], x["adjustment_time"], x["capacity"], x["needed"])
    one = firms.rollout(network, parameters, productivity=z, final_demand=x["final"], rules=rules, kernels=ENGINES[engine])
    parts, state = [], None
    for a, b in ((0, 1), (1, 11), (11, STEPS)):
        part = firms.rollout(network, parameters, productivity=z[a:b], final_demand=x["final"][a:b], rules=rules, state=state, kernels=ENGINES[engine])
        parts.append(part)
        state = part.state
    assert torch.allclose(torch.cat([p.output for p in parts]), one.output, rtol=1e-12, atol=0)
    assert torch.allclose(torch.cat([p.final for p in parts]), one.final, rtol=1e-12, atol=1e-15)
    a = torch.autograd.grad(torch.cat([p.output for p in parts]).square().sum(), list(x.values()), retain_graph=True)
    b = torch.autograd.grad(one.output.square().sum(), list(x.values()))
    assert all(float((u - v).norm()) <= 1e-11 * float(v.norm()) for u, v in zip(a, b, strict=True))


@pytest.mark.parametrize("engine", ENGINES)
def test_gradcheck_of_a_whole_run(engine: str) -> None:
    network = firms.synthetic(6, degree=3, seed=1)
    generator = torch.Generator().manual_seed(0)

    def near(value: float, *shape: int) -> Tensor:
        return (value * (0.9 + 0.2 * torch.rand(*shape, generator=generator, dtype=torch.float64))).requires_grad_()

    z, c = near(0.7, 8, 6, 2), (network.final_demand[None, :, None] * near(0.9, 8, 6, 2)).detach().requires_grad_()

    def output(n: Tensor, tau: Tensor, cap: Tensor, needed: Tensor, z: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        made = firms.rollout(network, firms.Parameters(n, tau, cap, needed), productivity=z, final_demand=c, kernels=ENGINES[engine])
        return made.output, made.state.stock

    values = (near(1.2, 6, 2), near(4.0, 6, 2), near(1.1, 6, 2), near(1.0, 6, 2), z, c)
    assert torch.autograd.gradcheck(output, values, eps=1e-7, atol=1e-6)
    with pytest.raises(InputError, match="a whole run has first derivatives only"):
        torch.autograd.grad(output(*values)[0].square().sum(), values[4], create_graph=True)


@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # torch's own forward mode
@pytest.mark.parametrize("order_first", [False, True])
@pytest.mark.parametrize("shock_on_stock", [False, True])
@pytest.mark.parametrize("beta", [0, 6, 64])
def test_forward_mode_is_that_of_the_step(network: firms.Network, order_first: bool, shock_on_stock: bool, beta: int) -> None:
    relax: Relaxation = StraightThrough(Logistic(1 / beta)) if beta else Exact()
    rules = {"order_first": order_first, "shock_on_stock": shock_on_stock}
    x = {name: value.detach() for name, value in leaves(network, 2).items()}
    generator = torch.Generator().manual_seed(3)
    along = tuple(torch.randn(v.shape, generator=generator, dtype=torch.float64) * v for v in x.values())

    def of(how: firms.Rules) -> Any:
        def results(*values: Tensor) -> tuple[Tensor, ...]:
            made = run(network, dict(zip(x, values, strict=True)), relax=relax, rules=how, check=False)
            return made.output, made.demand, made.state.stock, made.state.order

        return torch.func.jvp(results, tuple(x.values()), along)[1]

    fast, slow = of(firms.Rules(**rules)), of(firms.Rules(production=stepwise, **rules))
    assert all(float((a - b).norm()) <= 1e-11 * float(b.norm()) and float(b.norm()) > 0 for a, b in zip(fast, slow, strict=True))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_stock_that_never_binds_has_a_gradient_of_exactly_zero(network: firms.Network, engine: str, batch: int, dtype: torch.dtype) -> None:
    x = leaves(network, batch, dtype)
    x["inventory"] = torch.where(torch.arange(FIRMS)[:, None] % 2 == 0, 300.0, x["inventory"].detach()).requires_grad_()  # every other firm has plenty
    made = run(network.to(dtype), x, kernels=ENGINES[engine])
    (gradient,) = torch.autograd.grad(made.output.square().sum(), [x["inventory"]])
    assert not gradient[::2].any()
    assert gradient[1::2].any()


@pytest.mark.parametrize("engine", ENGINES)
def test_single_precision_follows_double(engine: str) -> None:
    network = firms.synthetic(200, seed=0)
    n, rate, size = firms.draw(200)
    z = 1 - firms.exponential(100, onset=5, size=size, rate=rate)
    exact = firms.rollout(network, firms.Parameters(n), productivity=z, kernels=ENGINES[engine]).output
    single = firms.rollout(network.to(torch.float32), firms.Parameters(n), productivity=z, kernels=ENGINES[engine]).output
    assert single.dtype == torch.float32
    assert float((single.double().sum(1) / exact.sum(1) - 1).abs().max()) <= 1e-6
    assert float((single / exact - 1).abs().max()) <= 2e-5


def test_both_kernels_agree_to_rounding_and_the_operator_picks_one(network: firms.Network) -> None:
    x = leaves(network, 5)
    made = {name: run(network, x, kernels=kernels).output for name, kernels in {**ENGINES, "operator": None}.items()}
    assert all(torch.allclose(value, made["plain"], rtol=1e-13, atol=0) for value in made.values())
    if native.available():
        assert torch.equal(made["operator"], made["native"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own checks
@pytest.mark.parametrize("interval", [0, 5])
def test_both_operators_keep_the_contract_of_torch(network: firms.Network, interval: int) -> None:
    x = {name: value.detach() for name, value in leaves(network, 3).items()}
    z = 1 - firms.exponential(STEPS, onset=2, size=x["size"], rate=x["rate"])
    values = (
        network.pointer, network.supplier, network.coefficient, network.use, None, network.trade, x["inventory"], network.output[:, None], x["final"], z,
        x["capacity"] * network.output[:, None], 1 / x["adjustment_time"], 1 / x["needed"],
    )  # fmt: skip
    torch.library.opcheck(torch.ops.dpsc.firms_forward.default, (*values, interval, True))
    output, demands, stock, _, kept = made = torch.ops.dpsc.firms_forward(*values, interval, True)
    assert len(kept) == (STEPS - 1) // interval if interval else not len(kept)
    needs = [True, False] * 4 + [True]
    back = (*values, output, demands, stock, kept, torch.ones_like(output), None, None, None, interval or STEPS, True, 0.0, needs)
    torch.library.opcheck(torch.ops.dpsc.firms_backward.default, back)
    found = torch.ops.dpsc.firms_backward(*back)
    assert [bool(v.numel()) for v in found] == needs
    assert len(made) == 5


@pytest.mark.gpu
@pytest.mark.parametrize("beta", [0, 6, 64])
def test_a_device_gives_the_run_of_the_processor(network: firms.Network, beta: int) -> None:
    relax: Relaxation = StraightThrough(Logistic(1 / beta)) if beta else Exact()
    x = leaves(network, 3)
    there = {name: value.detach().cuda().requires_grad_() for name, value in x.items()}
    here, away = run(network, x, relax=relax), run(network.to("cuda"), there, relax=relax)
    assert away.output.is_cuda
    assert torch.allclose(away.output.cpu(), here.output, rtol=1e-12)
    again = run(network.to("cuda"), there, relax=relax)
    assert torch.equal(away.output, again.output), "no sum by atomics"
    for a, b in zip(scored(away, there), scored(here, x), strict=True):
        assert float((a.cpu() - b).norm()) <= 1e-10 * float(b.norm())


def test_thousands_of_steps_have_the_gradient_that_checkpoints_leave() -> None:
    network = firms.synthetic(8, degree=3, seed=1)
    n = torch.full((8, 1), 1.4, dtype=torch.float64, requires_grad=True)
    t = torch.arange(4000, dtype=torch.float64)[:, None, None]
    z = (1 - 0.3 * torch.sin(t / 40 + torch.arange(8)[:, None]).square()).contiguous()  # never at rest
    found = []
    for memory in (1e12, 0.0):
        made = firms.rollout(network, firms.Parameters(n, 6.0), productivity=z, memory=memory)
        found.append(torch.autograd.grad(made.output.square().mean(), n)[0])
    assert int((found[0] != 0).sum()) > 5
    assert float((found[0] - found[1]).norm()) <= 1e-12 * float(found[0].norm())
