"""Input-output tables: checked on the way in, split into firms where asked."""

from dpsc.data.tables.public import belgium, from_pymrio, read_pymrio, wiod_2008
from dpsc.data.tables.split import FirmNetwork, links, split_into_firms
from dpsc.data.tables.table import Findings, Table, checked_table
from dpsc.data.tables.text import read_csv

__all__ = ["Findings", "FirmNetwork", "Table", "belgium", "checked_table", "from_pymrio", "links", "read_csv", "read_pymrio", "split_into_firms", "wiod_2008"]
