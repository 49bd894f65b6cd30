"""What all contenders of the layer benchmarks share: the timed call, and the problems as a user writes them in cvxpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Arrays = Mapping[str, Any]
Contender = tuple[Callable[[], Any], Callable[[Any], Mapping[str, Any]]]


def forward_and_backward(arrays: Arrays, layer: Callable[[Any], Any]) -> Contender:
    """A contender from `theta -> x`: one call solves the batch and differentiates sum(v x) in theta; float64."""
    import torch

    theta, v = torch.from_numpy(arrays["theta"]).clone().requires_grad_(), torch.from_numpy(arrays["v"])

    def call() -> Any:
        theta.grad = None
        x = layer(theta)
        (x * v).sum().backward()
        return x

    def answer(x: Any) -> dict[str, Any]:
        return {"decision": x.detach().double().numpy(), "gradient": theta.grad.numpy()}

    return call, answer


def tensors(arrays: Arrays) -> dict[str, Any]:
    """Everything but theta and v as tensors."""
    import torch

    return {name: torch.from_numpy(value) for name, value in arrays.items() if name not in ("theta", "v")}


def inequalities(arrays: Arrays) -> tuple[Any, Any]:
    """G x <= h with the finite bounds as further rows, for libraries that take no bounds; tensors."""
    import torch

    eye, low, high = np.eye(len(arrays["lower"])), np.isfinite(arrays["lower"]), np.isfinite(arrays["upper"])
    rows = np.concatenate([arrays["G"], -eye[low], eye[high]])
    limits = np.concatenate([arrays["h"], -arrays["lower"][low], arrays["upper"][high]])
    return torch.from_numpy(rows), torch.from_numpy(limits)


def written(form: str, arrays: Arrays) -> tuple[Any, Any, Any]:
    """The problem as a user writes it: cvxpy problem, its parameter and its variable."""
    import cvxpy as cp

    n = arrays["theta"].shape[1]
    x, theta = cp.Variable(n, name="x"), cp.Parameter(n, name="theta")
    if form == "allocation":
        cost = theta @ x + 0.5 * arrays["Q"][0, 0] * cp.sum_squares(x)
        constraints = [cp.sum(x) == 1, x >= 0, x <= 1]
    elif form == "replenishment":
        cost = 0.5 * cp.sum_squares(cp.multiply(np.sqrt(arrays["Q"].diagonal()), x - theta)) + arrays["offset"] @ x
        constraints = [arrays["G"][0] @ x <= arrays["h"][0], x >= 0, x <= arrays["upper"]]
    elif form == "dense":
        cost = 0.5 * cp.quad_form(x, cp.psd_wrap(arrays["Q"])) + theta @ x
        constraints = [arrays["G"] @ x <= arrays["h"]]
    else:
        raise ValueError(f"form must be allocation, replenishment or dense, got {form!r}")
    return cp.Problem(cp.Minimize(cost), constraints), theta, x
