"""One stage, no lead time, backorders, Poisson demand: optimal average costs under minimum orders, batches and fixed costs."""

from dpsc.types import Instance

SOURCE = "relative value iteration by an independent script, bracket below 1e-8"

MINIMUM_ORDERS = tuple(
    Instance(
        name=f"average_cost_moq_{smallest}",
        source=SOURCE,
        parameters={"mean_demand": 5.0, "holding_cost": 1.0, "stockout_cost": 9.0, "minimum_order": smallest},
        known={"cost": cost},
    )
    for smallest, cost in ((1, 4.22109), (10, 6.31115), (20, 10.13708), (30, 14.31537))
)
BATCHES = Instance(
    name="average_cost_batch_12",
    source=SOURCE,
    parameters={"mean_demand": 5.0, "holding_cost": 1.0, "stockout_cost": 9.0, "batch": 12},
    known={"cost": 7.03119},
)
FIXED_COSTS = tuple(
    Instance(
        name=f"average_cost_fixed_{mean}",
        source="Zheng & Federgruen (1991), doi:10.1287/opre.39.4.654; recomputed with an independent script",
        parameters={"mean_demand": float(mean), "holding_cost": 1.0, "stockout_cost": 9.0, "order_cost": 64.0},
        known={"reorder_point": s, "order_up_to_level": up_to, "cost": cost},
    )
    for mean, s, up_to, cost in ((10, 6, 40, 35.0216), (15, 10, 49, 42.6978), (20, 14, 62, 49.1730), (25, 19, 56, 54.2622), (50, 42, 108, 70.9752))
)
ALL = (*MINIMUM_ORDERS, BATCHES, *FIXED_COSTS)
