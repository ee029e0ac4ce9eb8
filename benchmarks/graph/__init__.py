"""Task graphs: our executor beside three others, on the same work; see `benchmarks/graph/run.py`."""
