"""Opens an ONNX file of a checked folder with ONNX Runtime, on the CPU.

Invariant: the library is given bytes that were checked (hash, structure, no other files, no foreign operators) and
nothing else; no custom operators are registered.

The library reads bytes with Python's lock held, a second for 256 MiB, in which no other model of the process computes;
it gives the lock away when it reads a file. So the checked bytes become a file that is in memory only and has no name.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from open_autoglm.engines.model_folder import ModelFolder
from open_autoglm.engines.onnx_check import check_onnx
from open_autoglm.errors import ServerError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

MODEL_FILE: Final = "model.onnx"
MODEL_BYTES_MAX: Final = (2 << 30) - 1  # Protocol Buffers allow no more
_QUIET: Final = 3  # of the library's own log: errors


def open_session(folder: ModelFolder, threads: int = 0) -> InferenceSession:
    """Load `model.onnx`.

    Args:
        folder: that holds it.
        threads: of the library, for one pass; 0 for one per core.

    Raises:
        ServerError: `internal_error`, the file cannot be used, or the library is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ServerError("internal_error", "ONNX Runtime is missing; install open-autoglm[onnx]") from error
    data = folder.read(MODEL_FILE, MODEL_BYTES_MAX)
    try:
        check_onnx(data)
    except ValueError as error:
        raise folder.refuse(MODEL_FILE, str(error)) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _QUIET
    # Threads that wait for work must not take the core from the event loop.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        with _nameless_file(data) as path:
            del data
            return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library has exceptions of its own for each of its error codes
        raise folder.refuse(MODEL_FILE, f"cannot be loaded: {error}"[:500]) from error


@contextlib.contextmanager
def _nameless_file(data: bytes) -> Iterator[str | bytes]:
    """A path of a file that holds `data`; the data itself where there are no such files."""
    if not hasattr(os, "memfd_create"):
        yield data
        return
    descriptor = os.memfd_create(MODEL_FILE, os.MFD_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        del view, data  # the caller lets go too, so the model is not held twice while the library reads it
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
