"""Speed against rivals: our process and one in each rival's environment, whose timed calls alternate. Run by `scripts/benchmark.py`."""
