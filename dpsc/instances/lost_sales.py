"""One item, lost sales, a lead time: optimal average costs, and those of the best capped base-stock rules."""

from __future__ import annotations

import torch
from torch import Tensor

from dpsc import checks
from dpsc.types import Instance

TAIL = 1e-10
MEAN = 5.0
PENALTIES = (4, 9, 19, 39)
POISSON = {
    1: (4.0407, 5.4382, 6.6757, 7.8359),
    2: (4.3953, 6.0936, 7.6644, 9.1064),
    3: (4.5987, 6.5314, 8.3625, 10.0385),
    4: (4.7285, 6.8359, 8.8872, 10.7944),
}
GEOMETRIC = {
    1: (9.8175, 14.5082, 19.2179, 23.8657),
    2: (10.2402, 15.5029, 20.8906, 26.2138),
    3: (10.4667, 16.1367, 22.0645, 27.9635),
    4: (10.6065, 16.5774, 22.9530, 29.3559),
}
CAPPED = {  # (order-up-to level, largest order, cost), Poisson
    1: ((12, 6, 4.0654), (14, 6, 5.4812), (15, 8, 6.6877), (16, 9, 7.8425)),
    2: ((17, 5, 4.4057), (19, 6, 6.1191), (21, 7, 7.7209), (22, 8, 9.1326)),
    3: ((21, 5, 4.6308), (24, 6, 6.6164), (26, 6, 8.4010), (28, 7, 10.0853)),
    4: ((26, 5, 4.7978), (29, 5, 6.9123), (31, 6, 8.9544), (34, 6, 10.8926)),
}
SOURCE = (
    "relative value iteration by an independent script, bracket below 1e-5; the Poisson optima to two decimals as in Zipkin (2008), doi:10.1287/opre.1070.0471"
)


def demand_pmf(demand: str, mean_demand: float) -> Tensor:
    """Probabilities of 0, 1, ... D of the instances' demand, `(D + 1,)` float64; what lies beyond 1 - 1e-10 is counted as D.

    Args:
        demand: "poisson", or "geometric" on 0, 1, 2, ...
        mean_demand: units a period, > 0.
    """
    checks.one_of("demand", demand, ("poisson", "geometric"))
    mean = torch.tensor(checks.positive("mean_demand", mean_demand), dtype=torch.float64)
    k = torch.arange(int(60 * (mean_demand + 1)), dtype=torch.float64)
    pmf = (k * mean.log() - mean - torch.lgamma(k + 1)).exp() if demand == "poisson" else (mean / (1 + mean)) ** k / (1 + mean)
    last = int((pmf.cumsum(0) < 1 - TAIL).sum()) + 1
    return torch.cat([pmf[:last], (1 - pmf[:last].sum())[None]])


def _instance(demand: str, lead_time: int, position: int) -> Instance:
    known: dict[str, object] = {"cost": (POISSON if demand == "poisson" else GEOMETRIC)[lead_time][position]}
    if demand == "poisson":
        level, cap, cost = CAPPED[lead_time][position]
        known |= {"capped_level": level, "capped_order": cap, "capped_cost": cost}
    return Instance(
        name=f"lost_sales_{demand}_{lead_time}_{PENALTIES[position]}",
        source=SOURCE,
        parameters={"demand": demand, "mean_demand": MEAN, "lead_time": lead_time, "holding_cost": 1.0, "stockout_cost": float(PENALTIES[position])},
        known=known,
    )


ALL = tuple(_instance(demand, lead_time, i) for demand in ("poisson", "geometric") for lead_time in (1, 2, 3, 4) for i in range(4))
