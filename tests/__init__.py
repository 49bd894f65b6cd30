"""A package, so that no other distribution's `tests` in the environment (pymrio 0.7.0 installs one) is found in its place."""
