"""Heavy tails: the exponents asked for, the recipe, the same network every time, and refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dpsc.errors import InputError
from dpsc.simulate import firms
from dpsc.simulate.firms.heavy_tailed import heavy_tailed


def hill(value: Tensor, largest: int) -> float:
    """Hill's estimate of a tail exponent from the largest values."""
    ordered = value.double().sort(descending=True).values
    return largest / float((ordered[:largest] / ordered[largest]).log().sum())


def test_both_tails_have_their_exponents_and_go_together() -> None:
    network = heavy_tailed(20_000, degree=8.0, customer_tail=1.4, supplier_tail=1.8, seed=3)
    customers, suppliers = (torch.bincount(x.long(), minlength=network.firms) for x in (network.supplier, network.buyer))
    assert hill(customers, 300) == pytest.approx(1.4, abs=0.2)
    assert hill(suppliers, 300) == pytest.approx(1.8, abs=0.25)
    assert float(suppliers.double().mean()) == pytest.approx(8.0, rel=0.15)
    assert float(torch.corrcoef(torch.stack([customers, suppliers]).double().log1p())[0, 1]) > 0.3
    plain = firms.synthetic(20_000, degree=8.0)
    assert int(customers.max()) > 2 * int(torch.bincount(plain.supplier.long()).max())


def test_the_recipe_and_the_rest() -> None:
    network = heavy_tailed(300, degree=5.0, sectors=4, seed=1)
    total = torch.zeros(300, dtype=torch.float64).index_add(0, network.buyer.long(), network.coefficient)
    bought = torch.bincount(network.buyer.long(), minlength=300) > 0
    assert float(total[bought].min()) >= 0.3 - 1e-12
    assert float(total.max()) <= 0.7 + 1e-12
    assert not bool((network.supplier == network.buyer).any())
    assert set(network.sector.tolist()) == {0, 1, 2, 3}
    again = heavy_tailed(300, degree=5.0, sectors=4, seed=1)
    assert torch.equal(network.coefficient, again.coefficient)
    run = firms.rollout(network, firms.Parameters(inventory=4.0), horizon=50)
    assert torch.allclose(run.output[-1, :, 0], network.output, rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"firms": 1}, r"firms must be an integer >= 2, got 1"),
        ({"customer_tail": 1.0}, r"customer_tail must be > 1, or the mean does not exist, got 1.0"),
        ({"degree": 0.5}, r"degree must be >= 1, got 0.5"),
        ({"together": 1.5}, r"together must be a correlation in \[-1, 1\], got 1.5"),
        ({"input_share": (0.3, 1.0)}, r"input_share must be an interval within \[0, 1\)"),
    ],
)
def test_what_makes_no_network_is_refused(change: dict, text: str) -> None:
    with pytest.raises(InputError, match=text):
        heavy_tailed(**{"firms": 20, **change})
