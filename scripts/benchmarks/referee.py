"""The accurate answer to a layer problem, independent of any solver and proved by its own optimality conditions.

Each row's active set is found by the primal-dual active-set iteration: solve the equality-constrained problem of the current set, drop constraints with a
negative multiplier, add violated ones; after some rounds one constraint at a time, so that it cannot cycle among redundant ones. Where it stops, the
optimality conditions hold by construction; they are verified all the same, and a strictly convex program has no other solution. The gradient is one more
solve with the same matrix.
Source: Hintermüller, Ito & Kunisch (2002), doi:10.1137/S1052623401383558.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
TOGETHER, ROUNDS, EXACT = 12, 400, 1e-9


def solve(problem: Mapping[str, Array]) -> dict[str, Array]:
    """`decision` and `gradient`, both `(B, n)`.

    Raises: ArithmeticError for a row whose solution could not be verified.
    """
    rows, limits = _inequalities(problem)
    found = [_row(problem, problem["offset"] + problem["scale"] * theta, v, rows, limits) for theta, v in zip(problem["theta"], problem["v"], strict=True)]
    return {"decision": np.array([x for x, _ in found]), "gradient": np.array([-problem["scale"] * w for _, w in found])}


def _inequalities(problem: Mapping[str, Array]) -> tuple[Array, Array]:
    """G x <= h and the finite bounds as one system."""
    eye, low, high = np.eye(len(problem["lower"])), np.isfinite(problem["lower"]), np.isfinite(problem["upper"])
    rows = np.concatenate([problem["G"], -eye[low], eye[high]])
    return rows, np.concatenate([problem["h"], -problem["lower"][low], problem["upper"][high]])


def _row(problem: Mapping[str, Array], q: Array, v: Array, rows: Array, limits: Array) -> tuple[Array, Array]:
    Q, A, b = problem["Q"], problem["A"], problem["b"]
    n, equalities = len(q), len(b)
    active = np.zeros(len(limits), dtype=bool)
    for turn in range(ROUNDS):
        C = np.concatenate([A, rows[active]])
        K = np.block([[Q, C.T], [C, np.zeros((len(C), len(C)))]])
        right = np.concatenate([-q, b, limits[active]])
        point = np.linalg.lstsq(K, right, rcond=None)[0]
        x, multiplier = point[:n], np.zeros(len(limits))
        multiplier[active] = point[n + equalities :]
        slack = limits - rows @ x
        negative, violated = multiplier < -EXACT, ~active & (slack < -EXACT)
        if not (negative | violated).any():
            break
        if turn < TOGETHER:
            active ^= negative | violated
        elif negative.any():
            active[multiplier.argmin()] = False
        else:
            active[np.where(active, np.inf, slack).argmin()] = True
    worst = max(abs(K @ point - right).max(), -min(multiplier.min(), slack.min()), abs(A @ x - b).max(initial=0.0))
    if not worst <= EXACT * (1 + abs(x).max()):
        raise ArithmeticError(f"the referee has no verified solution for a row: its optimality conditions are off by {worst:.1e}")
    return x, np.linalg.lstsq(K, np.concatenate([v, np.zeros(len(C))]), rcond=None)[0][:n]
