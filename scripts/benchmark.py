"""Speed against rivals: our warm process and one in each rival's environment take turns, call by call.

    python scripts/benchmark.py                                     ours alone
    python scripts/benchmark.py --rival-python A/bin/python B/bin/python
    python scripts/benchmark.py allocation knapsack --json out.json --rival-python A/bin/python

Cases: allocation (the closed-form layer), convex (the general layer), knapsack (the exact oracle), seed_allocation (the seed experiment), firms
(networks of firms and ARIO), import, replenishment (compiled and eager simulator), growth (exponents of its cost), million (articles in shards),
four_stages (OR-Gym's setting).
One thread each; medians and minima over the repetitions; short calls in bursts. A rival whose answer is wrong is marked and is not counted as the best.
Exit code 0, also where a goal is missed: machines differ. docs/benchmarks.md has the environments of the rivals and the numbers we measured.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1]))  # for dpsc in a checkout that is not installed
    from benchmarks.command import main

    sys.exit(main(description=__doc__))
