"""The seed experiment in discopt, the library of the notebook that it comes from; run by the rival's Python, without dpsc and torch.

The protocol, in numpy's legacy stream: training rows, test rows, then one permutation an epoch; least squares, then ten epochs of gradient descent in
batches of ten, on the cost c.x of the decisions, through the sensitivities that discopt computes for each row.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from .layers import Arrays, Contender

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_ENABLE_X64", "1")


def replay(_: Arrays, seed: int, rows: Mapping[str, int], epochs: int, batch: int, rate: float, instance: Mapping[str, Any]) -> Contender:
    """The allocation half of the notebook.

    Args:
        seed: of numpy's legacy generator.
        rows: `train` and `test`.
        epochs: of gradient descent.
        batch: rows a step.
        rate: learning rate.
        instance: parameters of the data stream and the layer, those of `dpsc.instances.notebook.ALLOCATION`.
    """
    import discopt.modeling as dm
    from discopt._relax.differentiable import differentiable_solve_l3

    W, items = np.array(instance["weights"]), len(instance["weights"])

    def draw(random: Any, count: int) -> tuple[Any, Any]:
        x = random.randn(count, W.shape[1])
        y = x @ W.T
        for k, (i, j) in enumerate(instance["pairs"]):
            y[:, k] += instance["interaction"] * x[:, i] * x[:, j]
        y = y + instance["noise"] * random.randn(count, items)
        return x, y - y.mean(1, keepdims=True) + instance["center"]

    def model_of(cost: Any) -> tuple[Any, Any]:
        model = dm.Model("allocation")
        share = model.continuous("share", shape=(items,), lb=0.0, ub=1.0)
        price = model.parameter("price", value=np.asarray(cost, float))
        model.minimize(dm.sum(price * share) + instance["regularization"] * dm.sum(share * share))
        model.subject_to(dm.sum(share) == 1.0)
        return model, price

    def decide(costs: Any) -> Any:
        return np.array([np.array(model_of(cost)[0].solve().x["share"]) for cost in costs])

    def call() -> dict[str, float]:
        random = np.random.RandomState(seed)
        x, y = draw(random, rows["train"])
        x_test, y_test = draw(random, rows["test"])
        two_stage = np.linalg.lstsq(x, y, rcond=None)[0].T
        theta, (model, price) = two_stage.copy(), model_of(np.ones(items))
        for _ in range(epochs):
            order = random.permutation(rows["train"])
            for start in range(0, rows["train"], batch):
                picked, gradient = order[start : start + batch], np.zeros_like(theta)
                for i in picked:
                    price.value = theta @ x[i]
                    gradient += np.outer(differentiable_solve_l3(model).sensitivity_matrix().T @ y[i], x[i])
                theta -= rate * gradient / len(picked)
        out = {"oracle_cost": float((decide(y_test) * y_test).sum(1).mean())}
        for name, fitted in (("two_stage", two_stage), ("dfl", theta)):
            said = x_test @ fitted.T
            out[f"{name}_cost"], out[f"{name}_mse"] = float((decide(said) * y_test).sum(1).mean()), float(((said - y_test) ** 2).mean())
        return out

    return call, lambda metrics: metrics
