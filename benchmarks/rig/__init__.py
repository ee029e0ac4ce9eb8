"""The rig: processes on fixed cores, CPU and memory accounting, load clients, upstreams, scenarios and the summary.

Invariant: a figure is only kept for answers that arrived whole and right; anything else is recorded as wrong, with
the reason.
"""
