"""Becomes a server of the context protocol: run as a program, between our server and the child's own.

    python context_child.py NAME,NAME,… -- PROGRAM ARGUMENT…

Invariants: the child has the variables that are named and no other; it dies when the process dies that has started it,
however that dies (Linux); it makes no core file. Runs without any import of ours, so that it is quick.
"""

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1  # Linux, prctl(2)
_NOT_FOUND = 127  # as shells say it


def main(words: list[str]) -> int:
    """Become the program; return an exit code when that fails."""
    names, mark, *command = words
    if mark != "--" or not command:
        return 2
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before we could ask for our death
            return 1
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    kept = {name: os.environ[name] for name in names.split(",") if name in os.environ}
    try:
        os.execvpe(command[0], command, kept)  # noqa: S606 - a list of words from the configuration; no shell
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return _NOT_FOUND


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
