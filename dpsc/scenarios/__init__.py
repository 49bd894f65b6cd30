"""Business problems, each composed from the rooms below."""
