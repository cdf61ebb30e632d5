"""Trains the demo bundle: `python -m make_demo` (what `make demo` runs)."""
