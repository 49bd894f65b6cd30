"""The extended (R, s, Q) world on fixed futures: compiled as eager, shard as whole, candidates as one by one."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor

from dpsc.errors import ExactJumpError, InputError
from dpsc.instances.replenishment import Articles, Paths, articles, paths
from dpsc.relax import Exact, Logistic, StraightThrough
from dpsc.simulate.replenishment import PARAMETERS, Replenishment, cost

OF = articles(6, seed=3)
DRAWN = paths(OF, 5)


def few_weeks(weeks: int, dtype: torch.dtype) -> tuple[Articles, Paths]:
    """The beginning of the horizon: compiling takes time that grows with the weeks."""
    return Articles(*(x.to(dtype) for x in OF)), Paths(*(x[:weeks].to(dtype).contiguous() for x in DRAWN))


def candidates(count: int, dtype: torch.dtype) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    return {name: 4 * torch.rand(count, 6, dtype=dtype, generator=g) for name in PARAMETERS}


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="compiling needs a C++ compiler")
def test_compiled_is_eager_to_the_bit_and_has_its_gradient() -> None:
    of, drawn = few_weeks(3, torch.float32)
    eager, fast = (Replenishment(drawn, articles=of, compiled=compiled, cutoff=3) for compiled in (False, True))
    theta = candidates(2, torch.float32)
    assert torch.equal(fast.cost(theta, relax=Exact()), eager.cost(theta, relax=Exact()))
    slopes = []
    for temperature in (0.25, 0.4):  # the second one without compiling again
        for world in (eager, fast):
            tracked = {name: value.clone().requires_grad_() for name, value in theta.items()}
            total = world.cost(tracked, relax=StraightThrough(Logistic(temperature)))
            assert torch.equal(total, eager.cost(theta, relax=Exact()))
            total.mean(-2).sum().backward()
            slopes.append(torch.stack([tracked[name].grad for name in PARAMETERS]))  # type: ignore[misc]
    assert torch.allclose(slopes[0], slopes[1], rtol=1e-4, atol=1e-4 * float(slopes[0].abs().max()))
    assert torch.allclose(slopes[2], slopes[3], rtol=1e-4, atol=1e-4 * float(slopes[2].abs().max()))
    assert not torch.allclose(slopes[0], slopes[2], rtol=1e-3)
    with pytest.raises(ExactJumpError, match="read exactly has no gradient"):
        fast.cost(tracked, relax=Exact())


def test_a_shard_is_the_whole_to_the_bit() -> None:
    theta = candidates(2, torch.float64)
    whole = cost(theta, DRAWN, articles=OF, relax=Exact())
    parts = [
        cost(
            {name: value[:, keep] for name, value in theta.items()},
            Paths(*(x[:, :, keep] for x in DRAWN)),
            articles=Articles(*(x[..., keep] for x in OF)),
            relax=Exact(),
        )
        for keep in (slice(0, 2), slice(2, 6))
    ]
    assert torch.equal(torch.cat(parts, -1), whole)
    for c in range(2):
        assert torch.equal(cost({name: value[c] for name, value in theta.items()}, DRAWN, articles=OF, relax=Exact()), whole[c])


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(InputError, match=r"lead_time must be >= 1 week, got 0\.0"):
        Replenishment(DRAWN._replace(lead_time=DRAWN.lead_time - 1), articles=OF)
    with pytest.raises(InputError, match=r"return_lag must be <= 2 weeks, the longest that was announced, got 3\.0"):
        Replenishment(DRAWN, articles=OF, longest=(4, 2))
    with pytest.raises(InputError, match="trigger must be one of idle, position"):
        Replenishment(DRAWN, articles=OF, trigger="never")
    with pytest.raises(InputError, match="missing order_quantity"):
        Replenishment(DRAWN, articles=OF).cost({name: OF.scale for name in PARAMETERS[:3]}, relax=Exact())
