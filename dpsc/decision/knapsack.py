"""The 0/1 knapsack, exactly, for a whole batch at once.

max v.x over x in {0, 1}^n, w.x <= C, with integer weights shared by the batch. Items of equal weight enter in the order of their value, so the table over
capacities is built weight class by weight class: best(c) = max_k best'(c - k w) + (value of the k best items of the class). The first class needs no
maximum and the last one only the full capacity. With K items in a class this is one tensor operation where the textbook recursion takes K.
Source: Martello & Toth (1990), Knapsack Problems, chapter 2 (dynamic programming) and 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor

from dpsc import checks
from dpsc.decision.layer import DecisionLayer
from dpsc.errors import InputError
from dpsc.types import Solution, Status

TABLE = 2**19  # entries of the widest intermediate at a time: 4 MiB, which stays in the cache; a GPU takes 128 times as much


class Knapsack(DecisionLayer):
    """Choose items of most value within a capacity: an exact oracle.

    Args:
        weights: n integers >= 1, shared by all rows.
        capacity: integer C >= 0.
    Shapes: value `(..., n)` per item taken -> decision `(..., n)`, each 0 or 1. Items of value <= 0 are left out.
    Objective: minus the value taken, minimised like every objective of the package.
    Gradient: the decision is piecewise constant and carries none (train with `SPOPlus`); `Solution.objective` has the exact gradient -x.
    Bad input: a row with a NaN or infinite value has status 4 and decision NaN.
    Cost: about (C + 1) n operations a row.
    """

    def __init__(self, weights: Sequence[int] | Tensor, capacity: int) -> None:
        super().__init__()
        listed = weights.tolist() if isinstance(weights, Tensor) else list(weights)
        if not listed or any(not isinstance(w, (int, float)) or not isfinite(w) or w != int(w) or w < 1 for w in listed):
            raise InputError(f"weights must be integers >= 1, at least one, got {listed[:8]}{' ...' if len(listed) > 8 else ''}")
        self.capacity = checks.at_least("capacity", capacity, 0)
        self.parameter_shapes = {"value": (len(listed),)}
        self.register_buffer("weights", torch.tensor([int(w) for w in listed]), persistent=False)
        classes = [(w, [i for i, v in enumerate(listed) if v == w]) for w in sorted({int(w) for w in listed})]
        classes.sort(key=lambda c: len(c[1]))
        if len(classes) > 1:  # the two largest classes are the cheap ones to put first and last
            classes = [classes[-1], *classes[:-2], classes[-2]]
        self.class_weights = [w for w, _ in classes]
        for j, (w, items) in enumerate(classes):
            self.register_buffer(f"items_{j}", torch.tensor(items), persistent=False)
            count = min(len(items), self.capacity // w)
            source = torch.arange(self.capacity + 1) - w * torch.arange(count + 1)[:, None]
            self.register_buffer(f"source_{j}", torch.where(source < 0, self.capacity + 1, source), persistent=False)

    def forward(self, value: Tensor) -> Solution[Tensor]:  # type: ignore[override]
        """Solve every row of `(..., n)` values."""
        batch = self._batch({"value": value})
        rows = value.detach().reshape(-1, value.shape[-1]).double()
        valid = torch.isfinite(rows).all(1)
        step = max(
            1,
            TABLE
            * (128 if value.is_cuda else 1)
            // ((self.capacity + 1) * max(int(getattr(self, f"source_{j}").shape[0]) for j in range(len(self.class_weights)))),
        )
        clean = torch.where(valid[:, None], rows, 0.0)
        x = torch.cat([self._choose(part) for part in clean.split(step)]) if len(clean) else clean
        objective = torch.where(valid, -(value.reshape(rows.shape) * x.to(value.dtype)).sum(1), float("nan"))  # x is 0, not NaN, in bad rows
        x = torch.where(valid[:, None], x, float("nan")).reshape(value.shape).to(value.dtype)
        return Solution(
            decision=x,
            dual={},
            objective=objective.reshape(batch),
            status=torch.where(valid, int(Status.OK), int(Status.INVALID_INPUT)).to(torch.int8).reshape(batch),
            residual=torch.where(valid, 0.0, float("inf")).to(value.dtype).reshape(batch),
        )

    def objective(self, decision: Tensor, value: Tensor) -> Tensor:  # type: ignore[override]
        """`(...)`: -v.x."""
        checks.trailing_shape("decision", decision, self.parameter_shapes["value"], "(..., n)")
        self._batch({"value": value})
        return -(value * decision).sum(-1)

    def _choose(self, value: Tensor) -> Tensor:
        """`(B, n)` -> `(B, n)`; the batch goes last inside, so that every step over capacities reads whole rows of it."""
        v, batch, last = value.T.contiguous(), len(value), len(self.class_weights) - 1
        orders, sums, counts = [], [], []
        best = v.new_zeros(self.capacity + 1, batch)
        for j, w in enumerate(self.class_weights):
            items, source = getattr(self, f"items_{j}"), getattr(self, f"source_{j}")
            ranked, order = v[items].sort(dim=0, descending=True, stable=True)
            total = torch.cat([v.new_zeros(1, batch), ranked[: len(source) - 1].clamp(min=0).cumsum(0)])
            orders.append((items, order))
            sums.append(total)
            if j == 0:
                taken = (torch.arange(self.capacity + 1, device=v.device) // w).clamp(max=len(total) - 1)
                counts.append(taken[:, None].expand(-1, batch))
                best = total[taken]
            else:
                padded = torch.cat([best, best.new_full((1, batch), float("-inf"))])
                wanted = source[:, -1:] if j == last else source
                best, k = (padded[wanted] + total[:, None]).max(0)
                counts.append(k)
        x, room = torch.zeros_like(v), torch.full((1, batch), self.capacity, device=v.device)
        for j in range(last, -1, -1):
            items, order = orders[j]
            k = counts[j] if j == last and last > 0 else counts[j].gather(0, room)
            positive = (sums[j][1:] > sums[j][:-1]).sum(0, keepdim=True)
            room = room - self.class_weights[j] * k
            taken = torch.arange(len(items), device=v.device)[:, None] < torch.minimum(k, positive)
            x[items] = torch.zeros_like(v[items]).scatter(0, order, taken.to(v.dtype))
        return x.T.contiguous()
