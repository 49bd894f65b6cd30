"""A user's own table through the command that the documentation names, and what a user is told when it is wrong."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest

from tests.experiments.conftest import Go

OWN = """,Farms,Mills,Households,output
Farms,10,60,30,100
Mills,20,10,170,200
"""


def write(folder: Path, text: str = OWN) -> Path:
    path = folder / "own.csv"
    path.write_text(text)
    return path


def test_the_literal_command(go: Go, tmp_path: Path) -> None:
    said = go("experiment=firms_from_table", f"table.path={write(tmp_path)}", "flow.scenarios=8", "flow.horizon=20", "folder=out", "progress=false")
    assert said.code == 0, said.err
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["sectors"], metrics["firms"]) == (2, 24)
    assert metrics["sector_total_error"] < 1e-12
    assert 0 < metrics["lost_output_pct"] < 100
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Firms from the table own.csv" in page
    assert "Final demand is one column." in page
    assert (tmp_path / "out" / "tables" / "ranking.csv").read_text().startswith("firm,")


def test_a_table_as_a_spreadsheet_writes_it(go: Go, tmp_path: Path) -> None:
    text = ";Äcker;Mühlen;Haushalte;Lager;Output\nÄcker;10,5;60;31,5;-2;100\nMühlen;20;10;170;0;200\nLöhne;5;5;;;\nAbgaben, netto;1;1;;;\n"
    path = f"table.path={write(tmp_path, text)}"
    small = ("flow.scenarios=4", "flow.horizon=12", "flow.removals=6", "folder=out", "progress=false")
    said = go("experiment=firms_from_table", path, *small)
    assert (said.code, 'here table.other_rows=[Löhne, "Abgaben, netto"]' in said.err) == (2, True)
    said = go("experiment=firms_from_table", path, 'table.other_rows=["Löhne", "Abgaben, netto"]', *small)
    assert said.code == 0, said.err
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Read with ';' between cells and ',' before fractions." in html.unescape(page)
    assert "Negative cells of final demand: 1 in Lager." in page


def test_a_public_table_and_a_shock_to_one_sector(go: Go, tmp_path: Path) -> None:
    pytest.importorskip("pymrio")
    said = go(
        *("experiment=firms_from_table", "table.format=test", "flow.split.firms=1", "flow.shock.sectors=[reg1-food]", "flow.shock.hit=1"),
        *("flow.scenarios=4", "flow.horizon=12", "flow.removals=6", "folder=out", "progress=false"),
    )
    assert said.code == 0, said.err
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["firms"] == 48
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Firms from the table test, a public one" in page
    assert "Final demand is the sum of the columns " in page


@pytest.mark.parametrize(
    ("text", "overrides", "told"),
    [
        (
            OWN.replace("200", "210"),
            [],
            "own.csv must balance, sales + final demand = output in every row; got Mills: 200 sold, 210 produced (1 of 2 rows differ)",
        ),
        (OWN.replace("Mills,20", "Milks,20"), [], "'Milks' (did you mean Mills?)"),
        (OWN, ["table.balance=[Löhne"], "in quotes that the shell keeps: 'key="),
        (OWN, ["table.balence=output"], "did you mean table.balance?"),
        (OWN, ["flow.shock.sectors=[Farm]"], "sector must be one of Farms, Mills; got 'Farm' (did you mean Farms?)"),
        (OWN, ["flow.shock.smallest=2"], "0 <= smallest <= largest <= 1"),
        (OWN, ["flow.importance.important=0.5"], "0 <= important <= critical, got 0.5 and 0.03"),
        (OWN.replace("Mills,20,10,170,200\n", ""), ["table.final_demand=[Households]"], "every column must be a sector with a row of its own"),
        (
            OWN,
            ["flow.most_links=100"],
            "the firms of this table would have 144 links, more than flow.most_links = 100: make fewer firms (flow.split.firms=1, now 12)",
        ),
        (OWN, ["flow.onset=60"], "flow.onset must be a step of the run, 0 <= onset < horizon = 60, got 60"),
        (OWN, ["flow.stock.median=-1"], "flow.stock.median must be a finite number > 0, got -1"),
        (OWN, ["table.format=exiobase3", "table.year=2011"], "table.format of a table.year must be one of eora26, oecd, wiod"),
        (OWN, ["table.format=excel"], "table.format must be one of belgium, csv"),
    ],
)
def test_what_is_wrong_is_told(go: Go, tmp_path: Path, text: str, overrides: list[str], told: str) -> None:
    said = go("experiment=firms_from_table", f"table.path={write(tmp_path, text)}", *overrides, "folder=out", "progress=false")
    assert said.code == 2
    assert told in said.err
    assert "Traceback" not in said.err
