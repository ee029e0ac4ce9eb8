"""Models of under a million parameters that ship with the server and run in this process with numpy.

Matrices of this size gain nothing from several BLAS threads and lose a lot to their start, so one thread is
asked for before numpy is imported; what the user has set in the environment stays.
"""

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ.setdefault(_name, "1")
