"""Training of the embedded models: generator, network, optimiser, measuring. Never imported by the package.

Run its modules from the root of the repository, as `PYTHONPATH=src:. python -m training.train …`.
"""
