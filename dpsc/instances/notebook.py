"""The two problems of discopt's notebook on decision-focused learning: an allocation and a portfolio over three items."""

from dpsc.types import Instance

SOURCE = "discopt (jkitchin/discopt), docs/notebooks/decision_focused_learning.ipynb, as saved for discopt 0.3.0; seed 42 of numpy's legacy generator"

ALLOCATION = Instance(
    name="notebook_allocation",
    source=SOURCE,
    parameters={
        "weights": [[0.4, -0.2, 0.1, 0.0, 0.3], [0.0, 0.2, -0.1, 0.4, 0.0], [-0.2, 0.1, 0.2, -0.2, 0.4]],
        "pairs": [(0, 1), (2, 3), (0, 4)],
        "interaction": 0.4,
        "noise": 0.15,
        "center": 1.0,
        "regularization": 1.0,
        "demonstration_cost": [0.8, 1.0, 1.2],
    },
    known={
        "demonstration_decision": [0.4333, 0.3333, 0.2333],
        "demonstration_objective": 1.3133,
        "demonstration_sensitivity": [[-1 / 3, 1 / 6, 1 / 6], [1 / 6, -1 / 3, 1 / 6], [1 / 6, 1 / 6, -1 / 3]],
        "first_training_cost": [1.010, 1.742, 0.248],
        "first_test_cost": [0.464, 1.578, 0.957],
        "first_test_decision": [0.6012, 0.0441, 0.3547],
        "first_test_objective": 1.1775,
        "epoch_losses": [0.6435, 0.6292, 0.6166, 0.6062, 0.5980, 0.5916, 0.5863, 0.5813, 0.5765, 0.5716],
    },
)

PORTFOLIO = Instance(
    name="notebook_portfolio",
    source=SOURCE,
    parameters={
        "weights": [[0.60, -0.20, 0.12, 0.32, -0.08], [0.08, 0.40, -0.16, 0.04, 0.24], [-0.12, 0.16, 0.48, -0.24, 0.04]],
        "pairs": [(0, 2), (1, 4), (3, 0)],
        "interaction": 0.8,
        "noise": 0.1,
        "center": None,
        "risk_aversion": 2.0,
    },
    known={"epoch_losses": [0.5463, 0.5458, 0.5450, 0.5452, 0.5444, 0.5440, 0.5438, 0.5430, 0.5428, 0.5427]},
)
