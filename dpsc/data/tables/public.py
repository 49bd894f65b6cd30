"""Public input-output tables: Belgium 2015, the world 2008, and whatever pymrio reads (WIOD, EXIOBASE, OECD, Eora, its own test table)."""

from __future__ import annotations

import os
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy
import pandas
import torch

from dpsc import checks
from dpsc.data import folder
from dpsc.data.tables.table import Table, checked_table
from dpsc.errors import DataError, DataNotFoundError, InputError

OUTPUT, HOUSEHOLDS = "Sectoral output (M€/y)", "Household demand (M€/y)"
OTHER = "Total other demand (M€/y)"
LABOUR, EMPLOYEES = "Labor compensation (M€/y)", "Number of employees (-)"


def belgium(root: str | None = None) -> tuple[Table, pandas.DataFrame]:
    """Belgium 2015, 63 NACE sectors, million euro a year; final demand of households and of all others.

    Args:
        root: data folder; default `$DPSC_DATA`, then `./data`.
    Returns: the table, and the accounts by sector (columns as published, with labour compensation and employees).
    Raises: DataNotFoundError; DataError.
    Source: Federal Planning Bureau, input-output tables 2015, as prepared by Alleman, Schoors & Baetens (2023), arXiv:2305.16377.
    """
    flows = pandas.read_csv(folder.find("belgium", "IO_BE_NACE64.csv", root=root), index_col=0)
    accounts = pandas.read_csv(folder.find("belgium", "other_accounts_BE_NACE64.csv", root=root), index_col=0)
    if not list(flows.index) == list(flows.columns) == list(accounts.index):
        raise DataError("belgium: IO_BE_NACE64.csv and other_accounts_BE_NACE64.csv must list the same sectors in the same order")
    table = checked_table(
        list(flows.index),
        torch.from_numpy(flows.to_numpy(dtype=float, copy=True)),
        torch.from_numpy(accounts[[HOUSEHOLDS, OTHER]].to_numpy(dtype=float, copy=True)),
        output=torch.from_numpy(accounts[OUTPUT].to_numpy(dtype=float, copy=True)),
        categories=("households", "others"),
        source="Belgium 2015",
    )
    return table, accounts


def wiod_2008(root: str | None = None) -> Table:
    """The world in 2008, 41 regions x 35 industries, million US dollar. Published integers: final demand is what is not sold to industries.

    Args:
        root: data folder; default `$DPSC_DATA`, then `./data`.
    Returns: the table without the industries that have no output; sectors are named `country-industry`.
    Raises: DataNotFoundError; DataError.
    Source: Timmer, Dietzenbacher, Los, Stehrer & de Vries (2015), doi:10.1111/roie.12178, release 2013.
    """
    path = folder.find("wiod_2008", "wiot_2008.npz", root=root)
    try:
        with numpy.load(path, allow_pickle=False) as file:
            Z, output = file["Z"].astype(float), file["output"].astype(float)
            final, kinds = file["final"].astype(float), [str(name) for name in file["final_categories"]]
            sectors = [f"{country}-{industry}" for country in file["countries"] for industry in file["industries"]]
    except (KeyError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise DataError(f"{path} must be the archive wiot_2008.npz of the catalogue: {type(error).__name__}: {error}") from error
    if final.shape != (len(sectors), 41 * len(kinds)) or Z.shape != (len(sectors),) * 2:
        raise DataError(f"{path}: Z must be (1435, 1435) and final (1435, 205), got {Z.shape} and {final.shape}")
    by_kind = final.reshape(len(sectors), 41, len(kinds)).sum(1)
    empty = output == 0
    by_kind[empty] = 0.0
    Z[empty] = 0.0  # sells nothing; published roundings of one or two million
    Z[:, empty] = 0.0
    return checked_table(
        sectors,
        torch.from_numpy(Z),
        torch.from_numpy(by_kind),
        output=torch.from_numpy(output),
        categories=kinds,
        balance="final_demand",
        source="WIOD 2008",
    )


def from_pymrio(system: Any, *, balance: str = "refuse", negative_final_demand: str = "keep") -> Table:
    """A pymrio `IOSystem` (anything with frames Z and Y, and x where it is known) as a checked table.

    Args:
        system: for example what `pymrio.parse_exiobase3` returns.
        balance: see `checked_table`.
        negative_final_demand: see `checked_table`.
    Returns: the table; region and sector are joined by `-`, and final demand is summed over regions within a category.
    Raises: InputError where Z or Y is missing; else as `checked_table`.
    """
    name = str(getattr(system, "name", None) or "IOSystem")
    for part in ("Z", "Y"):
        if getattr(system, part, None) is None:
            raise InputError(f"{name} must have the frames Z and Y, got none for {part} (pymrio computes Z from A and x with calc_all())")
    if list(system.Z.index) != list(system.Z.columns) or list(system.Z.index) != list(system.Y.index):
        raise InputError(f"{name}: the rows of Z, the columns of Z and the rows of Y must be the same sectors in the same order")
    by_kind = system.Y.T.groupby(level=-1, sort=False).sum().T if system.Y.columns.nlevels > 1 else system.Y
    output = getattr(system, "x", None)
    return checked_table(
        [_joined(label) for label in system.Z.index],
        torch.from_numpy(system.Z.to_numpy(dtype=float, copy=True)),
        torch.from_numpy(by_kind.to_numpy(dtype=float, copy=True)),
        output=None if output is None else torch.from_numpy(output.to_numpy(dtype=float, copy=True)[:, 0]),
        categories=[_joined(label) for label in by_kind.columns],
        balance=balance,
        negative_final_demand=negative_final_demand,
        source=name,
    )


def read_pymrio(path: str | os.PathLike[str] | None, database: str, *, balance: str = "refuse", negative_final_demand: str = "keep", **options: Any) -> Table:
    """Read a multi-regional table with the parser of pymrio.

    Args:
        path: the file or folder that the publisher offers; None for pymrio's own test table.
        database: `test`, `wiod`, `exiobase1`, `exiobase2`, `exiobase3`, `oecd`, `eora26`, or `saved` for a system that pymrio saved.
        balance: see `checked_table`.
        negative_final_demand: see `checked_table`.
        **options: of the parser, for example `year=2008`.
    Raises: DataError without pymrio (names the extra), or where the parser fails; DataNotFoundError; else as `checked_table`.
    """
    try:
        import pymrio
    except ModuleNotFoundError as error:
        raise DataError("reading this table needs pymrio, which is not installed: pip install 'dpsc[tables]'") from error
    names = {"saved": "load", **{name: f"parse_{name}" for name in ("wiod", "exiobase1", "exiobase2", "exiobase3", "oecd", "eora26")}}
    checks.one_of("database", database, ("test", *names))
    if database == "test":
        system = pymrio.load_test()
    else:
        if path is None or not Path(path).expanduser().exists():
            raise DataNotFoundError(f"there is no {database} table at {path}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of satellite accounts that are not there, and not wanted
                system = getattr(pymrio, names[database])(Path(path).expanduser(), **options)
        except Exception as error:  # the parsers raise whatever pandas and zipfile raise
            raise DataError(f"pymrio cannot read {path} as {database}: {type(error).__name__}: {error}") from error
    if getattr(system, "Z", None) is None:
        system.calc_all()
    return from_pymrio(system, balance=balance, negative_final_demand=negative_final_demand)


def _joined(label: object) -> str:
    return "-".join(map(str, label)) if isinstance(label, tuple) else str(label)
