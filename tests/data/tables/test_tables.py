"""Input-output tables: known inverses, balance, every defect named, the public tables, and firms that add up to their sectors."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pandas
import pytest
import torch
from torch import Tensor

from dpsc.data import tables
from dpsc.data.tables import checked_table, split_into_firms
from dpsc.data.tables.table import solve, spectral_radius
from dpsc.errors import DataError, DataNotFoundError, InputError, ShapeError

NAMES = ["farms", "mills", "shops"]
Z = torch.tensor([[10.0, 60, 0], [20, 10, 40], [5, 5, 1]], dtype=torch.float64)
F = torch.tensor([30.0, 130, 89], dtype=torch.float64)  # outputs 100, 200, 100


def leontief_error(table: tables.Table) -> float:
    x = torch.linalg.solve(torch.eye(len(table.sectors), dtype=torch.float64) - table.coefficients, table.final_demand.sum(1))
    return float(((x - table.output).abs() / table.output).max())


# ------------------------------------------------------------------------------------------------------- the checks


def test_output_by_hand_and_the_textbook_inverse() -> None:
    assert checked_table(NAMES, Z, F).output.tolist() == [100, 200, 100]
    # The two sectors of Miller & Blair (2009), section 2.3; the inverse by hand: det(I - A) = .85 * .95 - .25 * .2.
    book = checked_table(["1", "2"], torch.tensor([[150.0, 500], [200, 100]]), torch.tensor([350.0, 1700]), output=torch.tensor([1000.0, 2000]))
    inverse = torch.stack([solve(book.coefficients, e) for e in torch.eye(2, dtype=torch.float64)], 1)
    assert torch.allclose(inverse, torch.tensor([[0.95, 0.25], [0.20, 0.85]], dtype=torch.float64) / 0.7575, rtol=1e-14)
    assert book.value_added.tolist() == [650, 1400]


def test_an_unbalanced_table_is_refused_or_balanced_as_asked() -> None:
    output = torch.tensor([100.0, 210, 100], dtype=torch.float64)
    with pytest.raises(DataError, match=r"must balance.*got mills: 200 sold, 210 produced \(1 of 3 rows differ\)"):
        checked_table(NAMES, Z, F, output=output)
    residual = checked_table(NAMES, Z, F, output=output, balance="final_demand")
    assert residual.output.tolist() == [100, 210, 100]
    assert residual.final_demand.sum(1).tolist() == [30, 140, 89]
    assert abs(residual.findings.imbalance - 10 / 210) < 1e-12
    assert checked_table(NAMES, Z, F, output=output, balance="output").output.tolist() == [100, 200, 100]
    assert checked_table(NAMES, Z, None, output=output).final_demand.sum(1).tolist() == [30, 140, 89]


def test_negative_final_demand_is_kept_refused_or_set_to_zero_and_said() -> None:
    f = torch.tensor([30.0, 130, -2], dtype=torch.float64)
    kept = checked_table(NAMES, Z, f)
    assert dict(kept.findings.negative_final_demand) == {"shops": -2.0}
    assert any("kept as they are: shops -2" in line for line in kept.findings.lines())
    with pytest.raises(DataError, match=r"final demand of a sector must not be negative, got shops -2"):
        checked_table(NAMES, Z, f, negative_final_demand="refuse")
    raised = checked_table(NAMES, Z, f, negative_final_demand="zero")
    assert raised.final_demand.sum(1).tolist() == [30, 130, 0]
    assert torch.allclose(raised.coefficients, kept.coefficients)
    assert leontief_error(raised) < 1e-14
    assert abs(float((raised.output / kept.output).max()) - 1 - raised.findings.raised_output) < 1e-12
    by_kind = checked_table(NAMES, Z, torch.stack([F + 3, torch.tensor([-3.0, -3, -3], dtype=torch.float64)], 1), categories=["use", "stocks"])
    assert dict(by_kind.findings.negative_cells) == {"use": 0, "stocks": 3}
    assert not by_kind.findings.negative_final_demand


def test_a_sector_without_output_is_left_out_and_named() -> None:
    bigger = torch.zeros(4, 4, dtype=torch.float64)
    bigger[:3, :3] = Z
    table = checked_table([*NAMES, "idle"], bigger, torch.cat([F, F.new_zeros(1)]))
    assert table.sectors == tuple(NAMES)
    assert table.findings.masked == ("idle",)
    bigger[0, 3] = 1.0
    with pytest.raises(DataError, match=r"without output must neither buy nor sell, got flows of idle \(1\)"):
        checked_table([*NAMES, "idle"], bigger, torch.cat([F, F.new_zeros(1)]))


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"sectors": ["farms", "mills", "farms"]}, InputError, r"sectors must be different, got more than once: farms"),
        ({"sectors": ["farms", " ", "shops"]}, InputError, r"empty one at position 2"),
        ({"sectors": ["farms", "mills"]}, ShapeError, r"shape \(N, N\) = \(2, 2\).*got \(3, 3\)"),
        ({"flow": -Z}, DataError, r"flows must not be negative, got -10 from farms to farms \(8 such cells\)"),
        ({"flow": Z / 0}, InputError, r"flows must be finite, got inf in row farms, column farms"),
        ({"final_demand": None}, InputError, r"must give final demand, output or both"),
        ({"flow": torch.tensor([[50.0, 0, 0], [90, 10, 0], [0, 0, 1]]), "final_demand": torch.tensor([-20.0, 1, 1])}, DataError, r"radius.*must be below 1"),
        ({"final_demand": torch.tensor([-200.0, 1, 1])}, DataError, r"output must not be negative, got farms -130"),
        ({"balance": "fix"}, InputError, r"balance must be one of final_demand, output, refuse; got 'fix'"),
        ({"output": torch.ones(2)}, ShapeError, r"output must have shape \(N,\) = \(3,\)"),
    ],
)
def test_a_defect_is_named(change: dict, error: type[Exception], text: str) -> None:
    whole = {"sectors": NAMES, "flow": Z, "final_demand": F, **change}
    with pytest.raises(error, match=text):
        checked_table(whole.pop("sectors"), whole.pop("flow"), whole.pop("final_demand"), **whole)


def test_the_spectral_radius_of_both_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.rand(40, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 40
    dense = spectral_radius(matrix)
    monkeypatch.setattr("dpsc.data.tables.table.DENSE_EIGENVALUES", 0)
    assert abs(spectral_radius(matrix) - dense) < 1e-10


# ------------------------------------------------------------------------------------------------------ a user's file

TEXT = """,mills, farms,households,output
farms,60,10,30,100
mills,10,20,,30
wages,5,5,,
"""


def test_a_csv_file_in_any_order_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("\ufeff" + TEXT)
    with pytest.raises(DataError, match=r"1 of 3 have none: 'wages'.*Rows that are no sectors \(wages, imports\) go into other_rows"):
        tables.read_csv(path)
    table = tables.read_csv(path, other_rows=["wages"])
    assert table.sectors == ("farms", "mills")
    assert table.flow.tolist() == [[10, 60], [20, 10]]
    assert table.categories == ("households",)
    assert leontief_error(table) < 1e-14


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        (TEXT.replace("mills,10", "milks,10"), DataError, r"'milks' \(did you mean mills\?\)"),
        (TEXT.replace("60", "sixty"), DataError, r"every cell must be a number or empty, got 'sixty' in row 'farms', column 'mills'"),
        (TEXT.replace(",", ";"), DataError, r"with ',' between cells"),
        (TEXT.replace("households", "mills"), InputError, r"columns must be different, got more than once: mills"),
        ("a", DataError, r"got 1 rows and 1 columns"),
        (",a\n", DataError, r"got 1 rows"),
        ("", DataError, r"must be a table of text"),
    ],
)
def test_an_unreadable_file_is_explained(tmp_path: Path, text: str, error: type[Exception], said: str) -> None:
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(error, match=said):
        tables.read_csv(path, other_rows=["wages"] if "wages" in text and "," in text else [])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"there is no input-output table .*nowhere.csv \(no such file\)"):
        tables.read_csv(tmp_path / "nowhere.csv")
    with pytest.raises(DataNotFoundError, match=r"a folder"):
        tables.read_csv(tmp_path)


# ------------------------------------------------------------------------------------------------------ public tables


@pytest.mark.data
def test_belgium_balances(data_root: Path) -> None:
    table, accounts = tables.belgium(str(data_root))
    assert len(table.sectors) == len(accounts) == 63
    assert table.findings.imbalance < 1e-12
    assert leontief_error(table) < 1e-12
    assert abs(table.findings.spectral_radius - 0.431) < 5e-4
    assert not table.findings.negative_value_added


@pytest.mark.data
def test_the_world_of_2008_balances(data_root: Path) -> None:
    table = tables.wiod_2008(str(data_root))
    assert len(table.sectors) == 1415
    assert len(table.findings.masked) == 20
    assert len(table.findings.negative_final_demand) == 3
    assert table.findings.negative_cells["changes in inventories and valuables"] > 0
    assert table.findings.leontief_error < 1e-12
    assert abs(table.findings.spectral_radius - 0.611) < 5e-4


def test_pymrio_and_any_system_with_the_same_frames(tmp_path: Path) -> None:
    pytest.importorskip("pymrio")
    table = tables.read_pymrio(None, "test")
    assert len(table.sectors) == 48
    assert table.sectors[0] == "reg1-food"
    assert leontief_error(table) < 1e-12
    with pytest.raises(InputError, match=r"database must be one of .*got 'wiot' \(did you mean wiod"):
        tables.read_pymrio(None, "wiot")
    with pytest.raises(DataNotFoundError, match=r"there is no wiod table at"):
        tables.read_pymrio(tmp_path / "none", "wiod")
    with pytest.raises(DataError, match=r"pymrio cannot read .* as oecd"):
        tables.read_pymrio(tmp_path, "oecd")
    import pymrio

    kept = pymrio.load_test()
    kept.calc_all()
    kept.save_all(tmp_path / "kept")
    again = tables.read_pymrio(tmp_path / "kept", "saved")
    assert again.sectors == table.sectors
    assert torch.allclose(again.flow, table.flow, rtol=1e-6)
    frame = pandas.DataFrame(Z.numpy(), index=NAMES, columns=NAMES)
    system = SimpleNamespace(name="own", Z=frame, Y=pandas.DataFrame({"use": F.numpy()}, index=NAMES), x=None)
    assert tables.from_pymrio(system).output.tolist() == [100, 200, 100]
    system.Y = system.Y.iloc[::-1]
    with pytest.raises(InputError, match=r"own: the rows of Z.*same order"):
        tables.from_pymrio(system)
    system.Z = None
    with pytest.raises(InputError, match=r"own must have the frames Z and Y, got none for Z"):
        tables.from_pymrio(system)


# -------------------------------------------------------------------------------------------------------------- firms


def by_sector(network: tables.FirmNetwork, value: Tensor) -> Tensor:
    return torch.zeros(len(network.sectors), dtype=torch.float64).index_add(0, network.sector, value)


@pytest.mark.parametrize("firms", [1, 7, {"mills": 20}])
@pytest.mark.parametrize("suppliers", [1, 4])
def test_firms_add_up_to_their_sectors(firms: int | dict, suppliers: int) -> None:
    table = checked_table(NAMES, Z, F)
    network = split_into_firms(table, firms, suppliers=suppliers, seed=3)
    assert torch.allclose(by_sector(network, network.output), table.output, rtol=1e-13)
    assert torch.allclose(by_sector(network, network.final_demand), table.final_demand.sum(1), rtol=1e-13)
    flow = network.coefficient * network.output[network.buyer]
    pair = network.sector[network.supplier] * 3 + network.sector[network.buyer]
    assert torch.allclose(torch.zeros(9, dtype=torch.float64).index_add(0, pair, flow).reshape(3, 3), table.flow, rtol=1e-12)
    sales = network.final_demand.index_add(0, network.supplier, flow)
    assert torch.allclose(sales, network.output, rtol=1e-13)
    alone = torch.bincount(network.sector)[network.sector[network.buyer]] == 1
    assert not bool(((network.supplier == network.buyer) & ~alone).any())
    assert len({*zip(network.supplier.tolist(), network.buyer.tolist(), strict=True)}) == len(network.supplier)


def test_one_firm_a_sector_is_the_table() -> None:
    table = checked_table(NAMES, Z, F)
    network = split_into_firms(table)
    dense = torch.zeros(3, 3, dtype=torch.float64)
    dense[network.supplier, network.buyer] = network.coefficient
    assert torch.allclose(dense, table.coefficients)
    assert network.firm_names() == NAMES
    assert split_into_firms(table, {"mills": 2}).firm_names() == ["farms", "mills/1", "mills/2", "shops"]


def test_every_firm_sells_even_where_nobody_consumes() -> None:
    table = checked_table(NAMES, Z, torch.tensor([0.0, 130, 89], dtype=torch.float64))
    network = split_into_firms(table, 30, suppliers=1, seed=1)
    assert bool((network.output > 0).all())


def test_what_cannot_be_split_is_named() -> None:
    table = checked_table(NAMES, Z, torch.tensor([30.0, 130, -8], dtype=torch.float64))
    with pytest.raises(DataError, match=r"every firm must produce something, got shops/\d+ -.*negative_final_demand=zero"):
        split_into_firms(table, 12, suppliers=1, seed=0)
    with pytest.raises(InputError, match=r"sector of firms must be one of .*got 'mill' \(did you mean mills"):
        split_into_firms(table, {"mill": 2})
    with pytest.raises(InputError, match=r"firms must be an integer >= 1, got 0"):
        split_into_firms(table, 0)
