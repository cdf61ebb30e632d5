"""Speed claims, as ratios of both sides measured in one run: `python -m benchmarks`."""
