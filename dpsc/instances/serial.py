"""Serial systems with backorders: exact optimal costs and echelon base-stock levels, stage 1 (the one that customers see) first."""

from dpsc.types import Instance

SOURCE = "Clark-Scarf recursion on a grid of .01 by an independent script, error below 1e-4, checked by simulation"
FOUR_STAGES = {"mean_demand": 5.0, "deviation": 2.0, "clipped": True, "holding_cost": [1.0, 0.5, 0.2, 0.1], "lead_time": [4, 3, 4, 2]}
EXAMPLE = {"mean_demand": 5.0, "deviation": 1.0, "clipped": False, "holding_cost": [7.0, 4.0, 2.0], "lead_time": [1, 1, 2]}


def _four(penalty: float, before: tuple[float, list[float]], after: tuple[float, list[float]]) -> tuple[Instance, Instance]:
    parameters = {**FOUR_STAGES, "stockout_cost": penalty, "charge_pipeline": False}
    return (
        Instance(f"serial_before_{penalty:g}", SOURCE, {**parameters, "order_first": True}, {"cost": before[0], "levels": before[1]}),
        Instance(f"serial_after_{penalty:g}", SOURCE, {**parameters, "order_first": False}, {"cost": after[0], "levels": after[1]}),
    )


EXAMPLE_6_1 = Instance(
    name="serial_example_6_1",
    source="Snyder & Shen (2019), Fundamentals of Supply Chain Theory, example 6.1: 47.65 on its grid; exact value by an independent script",
    parameters={**EXAMPLE, "stockout_cost": 37.12, "order_first": False, "charge_pipeline": True},
    known={"cost": 47.6602, "levels": [6.49, 12.02, 22.71]},
)
ALL = (
    *_four(4.0, (8.7525, [30.73, 46.60, 69.79, 79.76]), (8.2059, [25.13, 41.31, 64.62, 74.64])),
    *_four(9.0, (10.7339, [32.36, 49.00, 72.82, 83.18]), (10.0366, [26.58, 43.55, 67.50, 77.91])),
    *_four(19.0, (12.4201, [33.77, 51.00, 75.29, 85.94]), (11.5919, [27.84, 45.41, 69.84, 80.54])),
    *_four(39.0, (13.9100, [35.02, 52.74, 77.41, 88.28]), (12.9648, [28.97, 47.03, 71.84, 82.78])),
    EXAMPLE_6_1,
)
