"""Published problems as data: parameters, what is known about them, and the source. Optima live here and nowhere else."""

from dpsc import checks
from dpsc.instances import assembly, average_cost, layers, lost_sales, notebook, orders, replenishment, serial, textbook
from dpsc.types import Instance

ALL = {
    i.name: i
    for i in (
        notebook.ALLOCATION,
        notebook.PORTFOLIO,
        *layers.ALL,
        *orders.ALL,
        *average_cost.ALL,
        *lost_sales.ALL,
        *serial.ALL,
        *assembly.ALL,
        *textbook.ALL,
        replenishment.EXTENDED_RSQ,
    )
}


def get(name: str) -> Instance:
    """The instance of that name; the error lists the near ones."""
    checks.one_of("instance", name, ALL)
    return ALL[name]
