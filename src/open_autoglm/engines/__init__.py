"""Engines run models: continuous batching over what computes one step, off the event loop.

Matrices of the models that ship gain nothing from several BLAS threads and lose a lot to their start, so one thread
is asked for before numpy is imported; what the user has set in the environment stays. An engine whose library has
threads of its own (PyTorch, ONNX Runtime) sets their number through that library.
"""

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ.setdefault(_name, "1")
