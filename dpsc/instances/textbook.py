"""Examples and problems of Snyder & Shen, Fundamentals of Supply Chain Theory, with the answers that its package stockpyl prints.

`known` holds the printed digits. Where an answer follows a convention that is not exact (a truncated demand), `convention` names it.
"""

from __future__ import annotations

from typing import Any

from dpsc.types import Instance

SOURCE = "Snyder & Shen (2019), Fundamentals of Supply Chain Theory, {}; answer of stockpyl 1.0.2 (Snyder), run by an independent script"
FOUR_DEVIATIONS = 3.167124183311998e-05  # the normal probability beyond four standard deviations, on one side


def _instance(place: str, parameters: dict[str, Any], known: dict[str, Any], source: str = SOURCE) -> Instance:
    return Instance(f"textbook_{place.replace(' ', '_').replace('.', '_')}", source.format(place), parameters, known)


LOT_SIZES = (
    _instance("example 3.1", {"order_cost": 8.0, "holding_cost": 0.225, "demand_rate": 1300.0}, {"order_quantity": 304.0468, "cost": 68.4105}),
    _instance(
        "example 3.8",
        {"order_cost": 8.0, "holding_cost": 0.225, "demand_rate": 1300.0, "stockout_cost": 5.0},
        {"order_quantity": 310.8126, "backorder_share": 0.043062, "cost": 66.9214},
    ),
)
DISRUPTED = _instance(
    "example 9.1",
    {"order_cost": 8.0, "holding_cost": 0.225, "stockout_cost": 5.0, "demand_rate": 1300.0, "disruption_rate": 1.5, "recovery_rate": 14.0},
    {"order_quantity": 772.8111, "cost": 173.95},
)
YIELDS = (
    _instance(
        "example 9.4",
        {"order_cost": 18500.0, "holding_cost": 0.06, "demand_rate": 75000.0, "yield_mean": -15000.0, "yield_deviation": 9000.0, "kind": "additive"},
        {"order_quantity": 230246.37, "cost": 12914.782},
    ),
    _instance(
        "example 9.5",
        {
            "order_cost": 18500.0, "holding_cost": 0.06, "demand_rate": 75000.0,
            "yield_mean": 5 / 6, "yield_deviation": (5 / 252) ** 0.5,  # of a beta law with parameters 5 and 1
            "kind": "multiplicative",
        },
        {"order_quantity": 254460.21, "cost": 13086.525},
    ),
)  # fmt: skip
NEWSVENDORS = (
    _instance(
        "example 4.1",
        {"mean_demand": 50.0, "deviation": 8.0, "holding_cost": 0.18, "stockout_cost": 0.7},
        {"level": 56.60396, "cost": 1.9976052},
    ),
    _instance(
        "example 4.4",
        {"mean_demand": 50.0, "deviation": 8.0, "holding_cost": 0.18, "stockout_cost": 0.7, "lead_time": 4.0},
        {"level": 264.7669, "cost": 4.4668},
    ),
)
POISSON_NEWSVENDOR = _instance("problem 4.8a", {"mean_demand": 18.0, "holding_cost": 200.0, "stockout_cost": 270.0}, {"level": 19, "cost": 786.08844})
ORDER_UP_TO = (
    _instance(
        "example 4.7",
        {"mean_demand": 6.0, "holding_cost": 1.0, "stockout_cost": 4.0, "order_cost": 5.0},
        {"reorder_point": 4, "order_up_to_level": 10, "cost": 8.03411},
    ),
    _instance(
        "problem 4.31",
        {"mean_demand": 4.0, "holding_cost": 40.0, "stockout_cost": 125.0, "order_cost": 150.0},
        {"reorder_point": 2, "order_up_to_level": 7, "cost": 223.57483},
    ),
)
POWER_APPROXIMATION = _instance(
    "example 4.8",
    {"mean_demand": 50.0, "deviation": 8.0, "holding_cost": 0.18, "stockout_cost": 0.7, "order_cost": 2.5},
    {"reorder_point": 40.1946, "order_up_to_level": 74.2902},
)
HORIZONS = tuple(
    _instance(
        place,
        {
            "periods": 10, "mean_demand": 18.0, "deviation": 3.0, "holding_cost": 1.0, "stockout_cost": 25.0, "purchase_cost": 1.0, "order_cost": order_cost,
            "terminal_holding_cost": 1.0, "terminal_stockout_cost": 25.0, "discount": 0.98,
        },
        {**known, "convention": {"deviations": 4.0}},
    )
    for place, order_cost, known in (
        ("problem 4.29", 0.0, {"order_up_to_levels": [23] * 10, "cost": 234.79623}),
        ("problem 4.30", 40.0, {"reorder_points": [17] * 9 + [18], "order_up_to_levels": [42] * 8 + [41, 23], "cost": 519.35579}),
    )
)  # fmt: skip
LOT_PLANS = (
    _instance(
        "example 3.9", {"demand": [90.0, 120.0, 80.0, 70.0], "order_cost": 500.0, "holding_cost": 2.0}, {"orders": [210.0, 0.0, 150.0, 0.0], "cost": 1380.0}
    ),
    _instance(
        "problem 3.27", {"demand": [150.0, 100.0, 80.0, 200.0], "order_cost": 120.0, "holding_cost": 0.8}, {"orders": [150.0, 180.0, 0.0, 200.0], "cost": 424.0}
    ),
)
POISSON_REORDER = (
    _instance(
        "example 5.8",
        {"demand_rate": 1.5, "lead_time": 2.0, "order_cost": 100.0, "holding_cost": 20.0, "stockout_cost": 150.0},
        {"reorder_point": 3, "order_quantity": 5, "cost": 107.92358},
    ),
    _instance(
        "problem 5.2",
        {"demand_rate": 12.0, "lead_time": 0.5, "order_cost": 4.0, "holding_cost": 4.0, "stockout_cost": 28.0},
        {"reorder_point": 6, "order_quantity": 7, "cost": 28.24131},
    ),
)
NORMAL_REORDER = _instance(
    "example 5.1",
    {"demand_rate": 1300.0, "deviation": 150.0, "lead_time": 1 / 12, "order_cost": 8.0, "holding_cost": 0.225, "stockout_cost": 7.5},
    {
        "expected_inventory": [213.970, 318.590], "expected_inventory_cost": 95.451, "backorder_quantity": [128.638, 308.574],
        "safety_stock": [190.337, 304.047], "loss_function": [126.867, 328.449],
    },
)  # fmt: skip
JOINT = tuple(
    Instance(
        f"textbook_joint_replenishment_{name}",
        f"{place}, as shipped with stockpyl 1.0.2 (Snyder); optimum by enumeration with an independent script",
        {"order_cost": order_cost, "item_order_cost": item, "holding_cost": holding, "demand_rate": demand},
        {"multiples": multiples, "cost": cost},
    )
    for name, place, order_cost, item, holding, demand, multiples, cost in (
        ("3", "Joint replenishment of three items", 600.0, [120.0, 840.0, 300.0], [160.0, 20.0, 50.0], [1.0, 1.0, 1.0], [1, 3, 1], 837.8544),
        (
            "4", "Silver, Pyke & Peterson (1998), joint replenishment of four items", 40.0, [15.0] * 4, [0.24] * 4, [86000.0, 12500.0, 1400.0, 3000.0],
            [1, 1, 4, 3], 2067.6508,
        ),
        (
            "4_dear", "Joint replenishment of four items with dear orders", 20000.0, [36000.0, 46000.0, 34000.0, 38000.0], [1000.0, 900.0, 1200.0, 1000.0],
            [1780.0, 445.0, 920.0, 175.0], [1, 2, 1, 3], 1028646.3597,
        ),
    )
)  # fmt: skip
SERIAL_POISSON = tuple(
    Instance(
        f"textbook_shang_song_{row}",
        f"Shang & Song (2003), doi:10.1287/mnsc.49.5.618.15147, table 1, row {row}; answer of stockpyl 1.0.2 (Snyder), run by an independent script",
        {"mean_demand": 16.0, "echelon_holding_cost": echelon, "lead_time": [0.25] * 4, "stockout_cost": penalty, "law": "poisson"},
        {"cost": cost, "convention": {"tail": FOUR_DEVIATIONS}},
    )
    for row, echelon, penalty, cost in (
        (1, [0.25] * 4, 9.0, 12.68694),
        (9, [0.25, 2.5, 2.5, 0.25], 9.0, 53.00644),
        (17, [0.25] * 4, 99.0, 16.19788),
        (25, [0.25, 2.5, 2.5, 0.25], 99.0, 74.55429),
    )
)
SERIAL_NORMAL = (  # the answers come from a coarse grid, up to .03 % above the optimum
    _instance(
        "example 6.1",
        {"mean_demand": 5.0, "deviation": 1.0, "echelon_holding_cost": [3.0, 2.0, 2.0], "lead_time": [1.0, 1.0, 2.0], "stockout_cost": 37.12, "law": "normal"},
        {"grid_cost": 47.66539},
    ),
    _instance(
        "problem 6.1",
        {"mean_demand": 100.0, "deviation": 15.0, "echelon_holding_cost": [1.0, 1.0], "lead_time": [1.0, 1.0], "stockout_cost": 15.0, "law": "normal"},
        {"grid_cost": 166.27053},
    ),
    _instance(
        "problem 6.16",
        {"mean_demand": 20.0, "deviation": 4.0, "echelon_holding_cost": [5.0, 2.0], "lead_time": [8.0, 3.0], "stockout_cost": 24.0, "law": "normal"},
        {"grid_cost": 438.23963},
    ),
    _instance(
        "problem 6.2a",
        {
            "mean_demand": 64.0,
            "deviation": 8.0,
            "echelon_holding_cost": [2.0, 2.0, 1.0, 1.0, 1.0],
            "lead_time": [0.5] * 5,
            "stockout_cost": 24.0,
            "law": "normal",
        },
        {"grid_cost": 451.72881},
    ),
)


def _service(place: str, links: list[list[int]], time: list[int], holding: list[float], deviation: list[float], factor: float, inbound: dict[str, int],
             outbound: dict[str, int], cost: float) -> Instance:  # fmt: skip
    return _instance(
        place,
        {
            "links": links, "processing_time": time, "holding_cost": holding, "deviation": deviation, "safety_factor": factor,
            "inbound": inbound, "outbound": outbound,
        },
        {"cost": cost},
    )  # fmt: skip


SERVICE = (  # links are (supplier, customer); stages are numbered from 0
    _service("example 6.3", [[2, 1], [1, 0]], [1, 0, 1], [7.0, 4.0, 2.0], [1.0, 0.0, 0.0], 1.0, {"2": 1}, {"0": 1}, 2.828427),
    _service("problem 6.7", [[2, 1], [1, 0]], [2, 1, 1], [4.0, 3.0, 2.0], [10.0, 0.0, 0.0], 4.0, {"2": 1}, {"0": 0}, 357.77088),
    _service("example 6.5", [[0, 1], [1, 2], [1, 3]], [2, 1, 1, 1], [1.0, 2.0, 3.0, 3.0], [0.0, 0.0, 1.0, 1.0], 1.0, {"0": 1}, {"2": 0, "3": 1}, 8.277917),
    _service(
        "problem 6.9", [[2, 0], [2, 1], [3, 2], [4, 2], [5, 4]], [7, 7, 21, 3, 8, 2], [x / 365 for x in (44.0, 28.0, 18.0, 1.0, 4.0, 1.5)],
        [4.1, 6.2, 0.0, 0.0, 0.0, 0.0], 4.0, {}, {"0": 3, "1": 3}, 15.649530,
    ),
    _service(
        "figure 6.14", [[0, 1], [1, 2], [2, 4], [3, 4], [4, 5], [5, 9], [6, 9], [7, 9], [8, 9]], [2, 3, 2, 4, 2, 3, 6, 4, 3, 2],
        [0.01, 0.03, 0.04, 0.06, 0.12, 0.13, 0.2, 0.08, 0.04, 0.5], [0.0] * 9 + [10.0], 1.6448536269514722, {}, {"9": 2}, 18.824004,
    ),
)  # fmt: skip
ALL = (
    *LOT_SIZES,
    DISRUPTED,
    *YIELDS,
    *NEWSVENDORS,
    POISSON_NEWSVENDOR,
    *ORDER_UP_TO,
    POWER_APPROXIMATION,
    *HORIZONS,
    *LOT_PLANS,
    *JOINT,
    *POISSON_REORDER,
    NORMAL_REORDER,
    *SERIAL_POISSON,
    *SERIAL_NORMAL,
    *SERVICE,
)
