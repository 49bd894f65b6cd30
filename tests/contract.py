"""What every `DecisionProblem` of dpsc must keep; `tests/decision/test_contract.py` runs it over all of them.

To add a layer to the suite, add one `Case` to `tests/decision/test_contract.py`; a test proves that its list is complete.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from dpsc.decision import DecisionLayer
from dpsc.errors import DtypeError, InputError, ShapeError
from dpsc.types import DecisionProblem, Status


@dataclass(frozen=True)
class Case:
    """One implementation: how to make it, and random parameters `(*batch, *shape)` whose feasible set is the same in every row."""

    name: str
    make: Callable[[], DecisionLayer]
    draw: Callable[[torch.Generator, tuple[int, ...]], dict[str, Tensor]]
    differentiable: bool = True
    accuracy: float = 1e-9


def drawn(case: Case, *batch: int, seed: int = 0) -> dict[str, Tensor]:
    return case.draw(torch.Generator().manual_seed(seed), batch)


def tensors(decision: Any) -> list[Tensor]:
    return list(decision.values()) if isinstance(decision, dict) else [decision]


def row(decision: Any, i: int) -> Any:
    return {k: v[i] for k, v in decision.items()} if isinstance(decision, dict) else decision[i]


class DecisionContract:
    """Subclass with a parametrised fixture `case`."""

    def test_is_a_decision_problem(self, case: Case) -> None:
        assert isinstance(case.make(), DecisionProblem)

    def test_objective_is_the_one_that_was_minimised(self, case: Case) -> None:
        layer, p = case.make(), drawn(case, 40)
        solution = layer(**p)
        assert (solution.status == Status.OK).all()
        assert solution.residual.max() <= 1e-8
        torch.testing.assert_close(layer.objective(solution.decision, **p), solution.objective, rtol=case.accuracy, atol=case.accuracy)

    def test_no_other_row_decides_better(self, case: Case) -> None:
        """All rows share the feasible set, so the decision of any row is feasible in any other, and cannot beat the optimum there."""
        layer, p = case.make(), drawn(case, 25)
        solution = layer(**p)
        for i in range(25):
            one = {name: v[i].expand(v.shape) for name, v in p.items()}
            assert (layer.objective(solution.decision, **one) >= solution.objective[i] - 1e-8).all()

    def test_batch_equals_loop(self, case: Case) -> None:
        layer, p = case.make(), drawn(case, 7)
        together = layer(**p)
        for i in range(7):
            alone = layer(**{name: v[i] for name, v in p.items()})
            for a, b in zip(tensors(alone.decision), tensors(row(together.decision, i)), strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
            torch.testing.assert_close(alone.objective, together.objective[i], rtol=1e-12, atol=1e-12)

    def test_any_leading_shape_and_broadcasting(self, case: Case) -> None:
        layer, p = case.make(), drawn(case, 2, 3)
        flat = layer(**{name: v.flatten(0, 1) for name, v in p.items()})
        nested = layer(**p)
        for a, b in zip(tensors(nested.decision), tensors(flat.decision), strict=True):
            torch.testing.assert_close(a.flatten(0, 1), b, rtol=0, atol=1e-12)
        assert nested.objective.shape == nested.status.shape == nested.residual.shape == (2, 3)
        shared = {name: (v if i == 0 else v[0, 0]) for i, (name, v) in enumerate(p.items())}
        assert layer(**shared).objective.shape == (2, 3)

    def test_rows_can_be_permuted(self, case: Case) -> None:
        layer, p = case.make(), drawn(case, 9)
        order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
        forward, permuted = layer(**p), layer(**{name: v[order] for name, v in p.items()})
        torch.testing.assert_close(permuted.objective, forward.objective[order], rtol=0, atol=1e-13)

    def test_empty_batch(self, case: Case) -> None:
        solution = case.make()(**drawn(case, 0))
        assert solution.objective.shape == solution.status.shape == (0,)
        assert all(x.shape[0] == 0 for x in tensors(solution.decision))

    @pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
    def test_bad_rows_are_flagged_and_alone(self, case: Case, poison: float) -> None:
        layer, p = case.make(), drawn(case, 12)
        clean = layer(**p)
        bad = [0, 5, 11]
        name = next(iter(p))
        dirty = {n: v.clone() for n, v in p.items()}
        for i in bad:
            dirty[name].view(12, -1)[i, 0] = poison
        leaf = dirty[name].requires_grad_()
        solution = layer(**dirty)
        good = [i for i in range(12) if i not in bad]
        assert (solution.status[bad] == Status.INVALID_INPUT).all()
        assert (solution.status[good] == clean.status[good]).all()
        assert not solution.ok[bad].any()
        assert solution.ok[good].all()
        for a, b in zip(tensors(solution.decision), tensors(clean.decision), strict=True):
            assert a[bad].isnan().all()
            torch.testing.assert_close(a[good], b[good], rtol=0, atol=1e-12)
        torch.testing.assert_close(solution.objective[good], clean.objective[good], rtol=1e-12, atol=1e-12)
        loss = solution.objective.sum() + sum((x * x).sum() for x in tensors(solution.decision) if x.requires_grad)
        (gradient,) = torch.autograd.grad(loss, leaf)
        assert torch.equal(gradient[bad], torch.zeros_like(gradient[bad])) or not case.differentiable
        assert gradient[good].isfinite().all()

    def test_dtype_out_is_dtype_in(self, case: Case) -> None:
        layer, p = case.make(), drawn(case, 5)
        exact, single = layer(**p), layer(**{name: v.float() for name, v in p.items()})
        for t in [*tensors(single.decision), single.objective, single.residual, *single.dual.values()]:
            assert t.dtype == torch.float32
        assert single.status.dtype == torch.int8
        torch.testing.assert_close(single.objective.double(), exact.objective, rtol=1e-5, atol=1e-5)

    def test_decision_gradient(self, case: Case) -> None:
        if not case.differentiable:
            assert all(not x.requires_grad for x in tensors(case.make()(**{n: v.requires_grad_() for n, v in drawn(case, 2).items()}).decision))
            return
        layer, p = case.make(), drawn(case, 6, seed=1)
        names = list(p)
        assert torch.autograd.gradcheck(lambda *v: tuple(tensors(layer(**dict(zip(names, v, strict=True))).decision)), [v.requires_grad_() for v in p.values()])

    def test_objective_gradient_is_the_envelope(self, case: Case) -> None:
        layer, p = case.make(), drawn(case, 6, seed=2)
        names = list(p)
        assert torch.autograd.gradcheck(lambda *v: layer(**dict(zip(names, v, strict=True))).objective, [v.clone().requires_grad_() for v in p.values()])
        found = layer.value_gradient(**p)
        leaves = {n: v.clone().requires_grad_() for n, v in p.items()}
        gradients = torch.autograd.grad(layer(**leaves).objective.sum(), list(leaves.values()))
        for n, g in zip(names, gradients, strict=True):
            torch.testing.assert_close(found[n], g)

    def test_sensitivity_against_finite_differences(self, case: Case) -> None:
        layer, p = case.make(), drawn(case, 3, seed=4)
        step = 1e-6
        jacobians = layer.sensitivity(**p)
        for name, v in p.items():
            size = v[0].numel()
            for j in range(size):
                shift = torch.zeros(size, dtype=v.dtype)
                shift[j] = step
                up, down = (layer(**{**p, name: v + sign * shift.reshape(v[0].shape)}).decision for sign in (1, -1))
                found = jacobians[name]
                for variable, (a, b) in enumerate(zip(tensors(up), tensors(down), strict=True)):
                    jacobian = list(found.values())[variable] if isinstance(found, dict) else found
                    torch.testing.assert_close(jacobian.reshape(*a.shape, -1)[..., j], (a - b) / (2 * step), rtol=1e-5, atol=1e-6)

    @pytest.mark.gpu
    def test_the_gpu_decides_as_the_cpu_does(self, case: Case) -> None:
        layer, p = case.make(), drawn(case, 20)
        there = {name: v.cuda() for name, v in p.items()}
        here, found = layer(**p), case.make().cuda()(**there)
        for t in [*tensors(found.decision), found.objective, found.status, found.residual]:
            assert t.device.type == "cuda"
        for a, b in zip(tensors(found.decision), tensors(here.decision), strict=True):
            torch.testing.assert_close(a.cpu(), b, rtol=0, atol=1e-12)
        torch.testing.assert_close(found.objective.cpu(), here.objective, rtol=1e-12, atol=1e-12)

    def test_sensitivities_of_one_row_are_those_of_the_batch(self, case: Case) -> None:
        layer, p = case.make(), drawn(case, 3, seed=5)
        alone = {name: v[1] for name, v in p.items()}
        for together, single in ((layer.sensitivity(**p), layer.sensitivity(**alone)), (layer.value_gradient(**p), layer.value_gradient(**alone))):
            for name in p:
                for a, b in zip(tensors(together[name]), tensors(single[name]), strict=True):
                    torch.testing.assert_close(a[1], b, rtol=0, atol=1e-12)

    def test_wrong_names_shapes_and_dtypes_are_named(self, case: Case) -> None:
        layer, p = case.make(), drawn(case, 2)
        name, value = next(iter(p.items()))
        with pytest.raises(InputError, match=f"missing {name}"):
            layer.sensitivity()
        with pytest.raises(InputError, match="unknown"):
            layer.sensitivity(**p, nonsense=value)
        if layer.parameter_shapes[name]:
            with pytest.raises(ShapeError, match=f"{name} must have shape"):
                layer(**{**p, name: value[..., :-1]})
        with pytest.raises(DtypeError, match=f"{name} must be a floating-point tensor"):
            layer(**{**p, name: value.long()})
