"""The comparison: our server beside the gateways people install today, on one rig, in one run.

`run.py` measures and writes JSON, `report.py` turns the JSON into `docs/benchmarks.md` and the plots. Nothing here is
part of the installed package.
"""
