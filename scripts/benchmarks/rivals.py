"""Other libraries in the benchmarks, each through its public interface, one thread; run by the rival's Python, without dpsc."""

from __future__ import annotations

from typing import Any

from .layers import Arrays, Contender, forward_and_backward, inequalities, tensors, written


def cvxpylayers(arrays: Arrays, form: str) -> Contender:
    """cvxpylayers with its default backend (DIFFCP over SCS); one job instead of a pool of threads."""
    from cvxpylayers.torch import CvxpyLayer

    problem, theta, x = written(form, arrays)
    layer, one_thread = CvxpyLayer(problem, parameters=[theta], variables=[x]), {"n_jobs_forward": 1, "n_jobs_backward": 1}
    return forward_and_backward(arrays, lambda value: layer(value, solver_args=one_thread)[0])


def cvxpylayers_moreau(arrays: Arrays, form: str) -> Contender:
    """cvxpylayers with the MOREAU backend."""
    import moreau  # noqa: F401 - only to know that it is there
    from cvxpylayers.torch import CvxpyLayer

    problem, theta, x = written(form, arrays)
    layer = CvxpyLayer(problem, parameters=[theta], variables=[x], solver="MOREAU")
    return forward_and_backward(arrays, lambda value: layer(value)[0])


def qpth(arrays: Arrays, form: str) -> Contender:
    """qpth with its own tolerances, quiet."""
    import torch
    from qpth.qp import QPFunction

    t, (rows, limits), solve = tensors(arrays), inequalities(arrays), QPFunction(verbose=-1, check_Q_spd=False)
    A, b = (t["A"], t["b"]) if len(t["b"]) else (torch.Tensor(), torch.Tensor())
    return forward_and_backward(arrays, lambda value: solve(t["Q"], t["offset"] + t["scale"] * value, rows, limits, A, b))


def proxsuite(arrays: Arrays, form: str) -> Contender:
    """proxsuite's QPLayer with its own tolerances."""
    import torch
    from proxsuite.torch.qplayer import QPFunction

    t, (rows, limits), solve = tensors(arrays), inequalities(arrays), QPFunction()
    below = torch.full_like(limits, -1e20)
    return forward_and_backward(arrays, lambda value: solve(t["Q"], t["offset"] + t["scale"] * value, t["A"], t["b"], rows, below, limits)[0])


def pounce(arrays: Arrays, form: str) -> Contender:
    """pounce.torch with its own tolerances, bounds as bounds."""
    from pounce.torch import solve_qp_batch

    t = tensors(arrays)
    shared: dict[str, Any] = {"P": t["Q"], "check_psd": False}
    if len(t["b"]):
        shared |= {"A": t["A"], "b": t["b"]}
    if len(t["h"]):
        shared |= {"G": t["G"], "h": t["h"]}
    if bool(t["upper"].isfinite().all()):
        shared |= {"lb": t["lower"], "ub": t["upper"]}
    return forward_and_backward(arrays, lambda value: solve_qp_batch(c=t["offset"] + t["scale"] * value, **shared))


def pyepo_scip(arrays: Arrays, capacity: int) -> Contender:
    """PyEPO's model of the knapsack on OR-Tools with SCIP, one solve a day."""
    import numpy as np
    from pyepo import EPO, dsl

    values, weights = arrays["value"], arrays["weights"]
    x, price = dsl.Variable(len(weights), vtype=EPO.BINARY), dsl.Parameter(len(weights))
    problem = dsl.Problem(dsl.Maximize(price @ x), [weights[None] @ x <= np.array([float(capacity)])])
    model = problem.compile(backend="ortools", solver="scip")

    def call() -> list[float]:
        found = []
        for day in values:
            model.setObj(day)
            found.append(float(model.solve()[1]))
        return found

    return call, lambda found: {"value": found}
