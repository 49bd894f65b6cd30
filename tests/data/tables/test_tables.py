"""Input-output tables: known inverses, balance, every defect named, the public tables, and firms that add up to their sectors."""

from __future__ import annotations

import json
import zipfile
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
        (TEXT.partition("\n")[2], DataError, r"the first row must name the columns .*, got numbers only: farms, 60, 10, 30, 100"),
        (TEXT.removeprefix(","), DataError, r"the first row must begin with a cell above the names of the sectors .*, got 'mills' there"),
        (
            TEXT.replace("10,20,,30", "10,20,30"),
            DataError,
            r"as many cells as the first, 5, got 4 in line 3 \(row 'mills'\); empty cells keep their separators",
        ),
        (TEXT.replace("60", '"1,060"'), DataError, r"got '1,060' in row 'farms', .*decimal=',' \(if thousands, remove it\)"),
        (TEXT.replace("60", "1 060.5"), DataError, r"got '1 060.5' in row 'farms', column 'mills'; write numbers without signs between thousands"),
        (TEXT.replace("60", '"60,5"'), DataError, r"got '60,5' .*; if the comma separates decimals, say decimal=','"),
        (TEXT.replace("households", "mills"), InputError, r"columns must be different, got more than once: mills"),
        ("a", DataError, r"got 1 rows and 1 columns"),
        (",a\n", DataError, r"got 1 rows"),
        ("", DataError, r"got 0 rows and 0 columns"),
        ("PK\x03\x04", DataError, r"must be a text file, got a workbook: save its sheet as CSV"),
    ],
)
def test_an_unreadable_file_is_explained(tmp_path: Path, text: str, error: type[Exception], said: str) -> None:
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(error, match=said):
        tables.read_csv(path, other_rows=["wages"] if "wages" in text and "," in text else [])


def test_decimal_commas_and_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(";a;b;use\na;1,5;2;3,25\nb;0;1e1;4\n")
    assert tables.read_csv(path, separator=";", decimal=",").flow.tolist() == [[1.5, 2], [0, 10]]
    with pytest.raises(DataError, match=r"got 3 rows and 1 columns with '\|' between cells \(separator=';', perhaps\?\)"):
        tables.read_csv(path, separator="|")
    path.write_text(path.read_text().replace("3,25", "3.000,25"))
    with pytest.raises(DataError, match=r"got '3.000,25' in row 'a', column 'use'; write numbers without signs between thousands"):
        tables.read_csv(path, separator=";", decimal=",")
    path.write_bytes(",a,b,use\na,1,2,3\nM\u00fcller,1,2,3\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"must be a table of text in UTF-8"):
        tables.read_csv(path)
    with pytest.raises(DataError, match=r"separator must be one character, got ', '"):
        tables.read_csv(path, separator=", ")
    with pytest.raises(InputError, match=r"decimal must be one of"):
        tables.read_csv(path, decimal="'")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (";a;b;use\na;1,5;2;3,25\nb;0;10;4\n", "Read with ';' between cells and ',' before fractions."),
        ("\ta\tb\tuse\na\t1.5\t2\t3.25\nb\t0\t10\t4\n", "Read with tabs between cells and '.' before fractions."),
        (';a;b;"use, of homes"\na;1.5;2;3.25\nb;0;10;4\n', "Read with ';' between cells and '.' before fractions."),
        (",a,b,use\na,1.5,2,3.25\nb,0,10,4\n", None),
        ("\ufeffsep=;\r\n;a;b;use\r\na;1,5;2;3,25\r\nb;0;10;4\r\n", "Read with ';' between cells and ',' before fractions."),
    ],
)
def test_separators_and_decimal_signs_are_found_and_said(tmp_path: Path, text: str, said: str | None) -> None:
    path = tmp_path / "own.csv"
    path.write_text(text)
    table = tables.read_csv(path)
    assert table.flow.tolist() == [[1.5, 2], [0, 10]]
    assert table.final_demand[:, 0].tolist() == [3.25, 4]
    assert table.findings.notes == (() if said is None else (said,))
    assert said is None or table.findings.lines()[0] == said


def test_a_comma_that_may_stand_between_thousands_must_be_explained(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(";a;b;use\na;1,500;2;3,250\nb;0;10;4\n")
    with pytest.raises(DataError, match=r"the comma of '1,500' may stand before fractions or between thousands; say decimal=','"):
        tables.read_csv(path)
    assert tables.read_csv(path, decimal=",").flow[0, 0] == 1.5


def test_the_column_of_output_is_found_whatever_its_capitals(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(",a,b,use,Output\na,1,2,3,6\nb,4,5,6,15\n")
    assert tables.read_csv(path).categories == ("use",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (",a,b,use,Total\na,1,2,3,6\nb,4,5,6,15\n", r"column 'Total' is the total of the flows and the final demand before it .*say output=Total"),
        (",a,b,sold,use\na,1,2,3,6\nb,4,5,9,6\n", r"column 'sold' is the total of the flows in every row, .*other_columns=\[sold\]"),
        (",a,b,use,stocks,final\na,1,2,3,1,4\nb,4,5,6,-2,4\n", r"column 'final' is the total of the final demand before it"),
    ],
)
def test_totals_are_not_counted_twice(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        tables.read_csv(path)
    name = text.splitlines()[0].split(",")[3 if "sold" in text else -1]
    assert name not in tables.read_csv(path, other_columns=[name]).categories


def test_a_sector_without_a_row_is_found_where_final_demand_is_named(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text(",farms,mills,use\nfarms,1,2,3\n")
    assert tables.read_csv(path).categories == ("mills", "use")
    with pytest.raises(DataError, match=r"every column must be a sector with a row of its own, final demand as given \(use\), output, .*got 'mills'"):
        tables.read_csv(path, final_demand=["use"])
    with pytest.raises(InputError, match=r"final_demand of own.csv must be one of .*got 'uses' \(did you mean use"):
        tables.read_csv(path, final_demand=["uses"])


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


# Layouts of two publishers, with invented numbers: what pymrio's parsers are given in earnest, in small.

REGIONS, GOODS = ("AT", "WA"), ("Paddy rice", "Wheat")


def exiobase_text(frame: pandas.DataFrame) -> str:
    """Tab-separated, two header lines, two columns of labels, and a line that names these."""
    head = [["region", "", *(r for r, _ in frame.columns)], [frame.columns.names[1], "", *(c for _, c in frame.columns)]]
    lines = [
        *head,
        ["region", "sector", *[""] * frame.shape[1]],
        *([*label, *map(repr, row)] for label, row in zip(frame.index, frame.to_numpy().tolist(), strict=True)),
    ]
    return "\n".join("\t".join(line) for line in lines) + "\n"


@pytest.mark.parametrize("release", ["3.8, an archive", "3.4, coefficients only"])
def test_exiobase_as_published(tmp_path: Path, release: str) -> None:
    pytest.importorskip("pymrio")
    labels = pandas.MultiIndex.from_product([REGIONS, GOODS], names=["region", "sector"])
    kinds = pandas.MultiIndex.from_product([REGIONS, ("Final consumption expenditure by households", "Changes in inventories")], names=["region", "category"])
    Z = pandas.DataFrame(torch.arange(1.0, 17).reshape(4, 4).numpy(), index=labels, columns=labels)
    Y = pandas.DataFrame([[30.0, 1, 5, 0], [20, -2, 3, 0], [4, 0, 50, 2], [1, 0, 60, -3]], index=labels, columns=kinds)
    x = Z.sum(axis=1) + Y.sum(axis=1)
    files = {"Y": ("Y.txt", 2, 2), "A": ("A.txt", 2, 2), "unit": ("unit.txt", 2, 1)}
    text = {"Y.txt": exiobase_text(Y), "A.txt": exiobase_text(Z / x), "unit.txt": "region\tsector\tunit\n" + "".join(f"{r}\t{s}\tM.EUR\n" for r, s in labels)}
    if release.startswith("3.8"):
        files |= {"Z": ("Z.txt", 2, 2), "x": ("x.txt", 2, 1)}
        text |= {"Z.txt": exiobase_text(Z), "x.txt": "region\tsector\tindout\n" + "".join(f"{r}\t{s}\t{v!r}\n" for (r, s), v in x.to_dict().items())}
    about = {name: {"name": file, "nr_index_col": str(left), "nr_header": str(top)} for name, (file, left, top) in files.items()}
    text["file_parameters.json"] = json.dumps({"systemtype": "IOSystem", "name": "EXIO3", "files": about})
    if release.startswith("3.8"):
        text["metadata.json"] = json.dumps({"name": "EXIO3", "description": "EXIOBASE 3", "system": "ixi", "version": "3.8.2", "history": []})
        path = tmp_path / "IOT_2011_ixi.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in text.items():
                archive.writestr(f"IOT_2011_ixi/{name}", content)
    else:
        path = tmp_path
        for name, content in text.items():
            (path / name).write_text(content)
    table = tables.read_pymrio(path, "exiobase3")
    assert table.sectors == ("AT-Paddy rice", "AT-Wheat", "WA-Paddy rice", "WA-Wheat")
    assert table.categories == ("Final consumption expenditure by households", "Changes in inventories")
    assert torch.allclose(table.flow, torch.arange(1.0, 17).reshape(4, 4).double(), rtol=1e-12)
    assert torch.allclose(table.final_demand, torch.tensor([[35.0, 1], [23, -2], [54, 2], [61, -3]], dtype=torch.float64))
    assert table.findings.negative_cells["Changes in inventories"] == 2
    assert leontief_error(table) < 1e-12


def test_the_tables_of_wiod_as_published(tmp_path: Path) -> None:
    pytest.importorskip("pymrio")
    openpyxl = pytest.importorskip("openpyxl")
    # The release of 2013: a sheet with four lines of headers beside the data, industries c1 ... c35 (here its first and its last), final demand c37 ... c41,
    # rows of inputs below, total output beside.
    places = [("AUS", "AtB", "c1"), ("AUS", "P", "c35"), ("USA", "AtB", "c1"), ("USA", "P", "c35")]
    kinds = [
        (region, name, code)
        for region in ("AUS", "USA")
        for name, code in (("Final consumption expenditure by households", "c37"), ("Changes in inventories", "c42"))
    ]
    square = torch.arange(1.0, 17).reshape(4, 4).double()
    final = torch.tensor([[30.0, 1, 5, 0], [20, -2, 3, 0], [4, 0, 50, 2], [1, 0, 60, -3]], dtype=torch.float64)
    out = square.sum(1) + final.sum(1)
    head = [
        ["Intercountry Input-Output Table, 2008", *[None] * 12],
        [None] * 13,
        ["(industry-by-industry)", None, None, None, *(code for _, code, _ in places), *[None] * 4, None],
        ["(millions of US$)", None, None, None, *(f"industry {code}" for _, code, _ in places), *(name for _, name, _ in kinds), "Total output"],
        [None, None, None, None, *(region for region, _, _ in places), *(region for region, _, _ in kinds), "TOT"],
        [None, None, None, None, *(code for _, _, code in places), *(code for _, _, code in kinds), "c60"],
    ]
    rows = [[code, f"industry {code}", region, c, *square[i].tolist(), *final[i].tolist(), float(out[i])] for i, (region, code, c) in enumerate(places)]
    below = [
        [None, name, "TOT", code, *value.tolist(), *[0.0] * 5]
        for name, code, value in (("Total intermediate consumption", "r60", square.sum(0)), ("Value added", "r64", out - square.sum(0)), ("Output", "r69", out))
    ]
    book = openpyxl.Workbook()
    for row in [*head, *rows, *below]:
        book.active.append(row)
    book.save(tmp_path / "wiot08_row_apr12.xlsx")
    for path, how in ((tmp_path / "wiot08_row_apr12.xlsx", {}), (tmp_path, {"year": 2008})):
        table = tables.read_pymrio(path, "wiod", **how)
        assert table.sectors == ("AUS-AtB", "AUS-P", "USA-AtB", "USA-P")
        assert torch.equal(table.flow, square)
        assert torch.equal(table.final_demand, torch.stack([final[:, [0, 2]].sum(1), final[:, [1, 3]].sum(1)], 1))
        assert torch.allclose(table.output, out)
        assert dict(table.findings.negative_cells) == {kind: count for kind, count in zip(table.categories, (0, 2), strict=True)}
        assert leontief_error(table) < 1e-12


def test_the_oecd_tables_as_published(tmp_path: Path) -> None:
    pytest.importorskip("pymrio")
    # The release of 2023: codes with further underscores, Mexico split in two, empty rows of the split country, value added and output below and beside.
    made = [f"{country}_{code}" for country in ("AUS", "MEX", "MX1", "MX2") for code in ("A01_02", "C26")]
    final = [f"{country}_{kind}" for country in ("AUS", "MEX") for kind in ("HFCE", "NPISH", "GGFC", "GFCF", "INVNT", "DPABR")]
    generator = torch.Generator().manual_seed(0)
    square, rest = torch.rand(8, 8, generator=generator).double(), torch.rand(8, 12, generator=generator).double() + 1
    square[2:4], square[:, 2:4], rest[2:4] = 0, 0, 0  # MEX itself is empty where it is split
    rest[:, [4, 10]] -= 1.5
    out = square.sum(1) + rest.sum(1)
    taxes = 0.1 * square.sum(0)
    lines = [["V1", *made, *final, "OUT"]]
    lines += [[name, *map(repr, [*square[i].tolist(), *rest[i].tolist(), float(out[i])])] for i, name in enumerate(made)]
    lines += [["TLS", *map(repr, taxes.tolist()), *["0.0"] * 13], ["VA", *map(repr, (out - square.sum(0) - taxes).tolist()), *["0.0"] * 13]]
    lines += [["OUT", *map(repr, out.tolist()), *["0.0"] * 13]]
    path = tmp_path / "ICIO2023_2018.csv"
    path.write_text("\n".join(",".join(line) for line in lines) + "\n")
    table = tables.read_pymrio(path, "oecd")
    assert table.sectors == ("AUS-A01_02", "AUS-C26", "MEX-A01_02", "MEX-C26")
    assert table.categories == ("HFCE", "NPISH", "GGFC", "GFCF", "INVNT", "DPABR")
    joined = torch.zeros(4, 8, dtype=torch.float64)
    joined[[0, 1, 2, 3, 2, 3, 2, 3], torch.arange(8)] = 1
    assert torch.allclose(table.flow, joined @ square @ joined.mT, rtol=1e-12)
    assert torch.allclose(table.output, joined @ out, rtol=1e-12)
    assert table.findings.negative_cells["INVNT"] > 0
    folder = tables.read_pymrio(tmp_path, "oecd", year=2018)
    assert torch.equal(folder.flow, table.flow)


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


@pytest.mark.parametrize("firms", [1, 2, 7, {"mills": 20, "shops": 3}])
@pytest.mark.parametrize("suppliers", [1, 2, 4])
@pytest.mark.parametrize("smallest", [0.0, 0.06])
def test_links_are_counted_before_they_are_drawn(firms: int | dict, suppliers: int, smallest: float) -> None:
    table = checked_table(NAMES, Z, F)
    counted = tables.links(table, firms, suppliers=suppliers, smallest_coefficient=smallest)
    network = split_into_firms(table, firms, suppliers=suppliers, smallest_coefficient=smallest, seed=3)
    customers = torch.bincount(network.supplier, minlength=len(network.sector))
    extra = len(network.supplier) - counted
    assert 0 <= extra <= int((customers == 1).sum()), "firms that nobody drew get one customer each"
    assert extra == 0 or firms != 1


def test_one_firm_a_sector_is_the_table() -> None:
    table = checked_table(NAMES, Z, F)
    network = split_into_firms(table)
    dense = torch.zeros(3, 3, dtype=torch.float64)
    dense[network.supplier, network.buyer] = network.coefficient
    assert torch.allclose(dense, table.coefficients)
    assert network.firm_names() == NAMES
    assert split_into_firms(table, {"mills": 2}).firm_names() == ["farms", "mills/1", "mills/2", "shops"]


@pytest.mark.parametrize("firms", [1, 5])
def test_small_inputs_without_a_link_leave_the_output_of_every_sector(firms: int) -> None:
    table = checked_table(NAMES, Z, F)
    network = split_into_firms(table, firms, smallest_coefficient=0.06, seed=2)
    small = torch.where(table.coefficients > 0.06, 0.0, table.coefficients)
    assert 0 < int((small > 0).sum()) < 8
    assert torch.allclose(by_sector(network, network.output), table.output, rtol=1e-13)
    assert torch.allclose(by_sector(network, network.final_demand), table.final_demand.sum(1) + small @ table.output, rtol=1e-13)
    pair = network.sector[network.supplier] * 3 + network.sector[network.buyer]
    flow = torch.zeros(9, dtype=torch.float64).index_add(0, pair, network.coefficient * network.output[network.buyer]).reshape(3, 3)
    assert torch.allclose(flow, table.flow - small * table.output, rtol=1e-12)


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
