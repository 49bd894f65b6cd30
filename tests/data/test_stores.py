"""Networks of stores: numbers within their ranges, the same store in every size."""

import pytest
import torch

from dpsc.data.stores import one_warehouse
from dpsc.errors import InputError


def test_numbers_lie_in_the_published_ranges() -> None:
    of = one_warehouse(50)
    assert of.stores == 50
    ratio = of.deviation / of.mean
    for values, low, high in ((of.mean, 2.5, 7.5), (ratio, 0.25, 0.5), (of.holding_cost[:-1], 0.7, 1.3), (of.lost_sale[:-1], 6.3, 11.7)):
        assert low <= values.min() < low + 0.15 * (high - low)
        assert high - 0.15 * (high - low) < values.max() <= high
    assert set(of.lead_time[:-1].tolist()) == {2, 3}
    assert (of.lead_time[-1], of.holding_cost[-1], of.lost_sale[-1], of.correlation) == (3, 0.3, 0, 0.5)


def test_a_store_is_the_same_in_every_network_of_a_seed() -> None:
    small, large = one_warehouse(3), one_warehouse(10)
    assert torch.equal(small.mean, large.mean[:3])
    assert torch.equal(small.lead_time[:3], large.lead_time[:3])
    assert not torch.equal(small.mean, one_warehouse(3, seed=1).mean)
    with pytest.raises(InputError, match="stores must be an integer >= 1, got 0"):
        one_warehouse(0)
