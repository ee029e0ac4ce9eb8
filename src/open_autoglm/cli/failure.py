"""How a command says that it could not do what it was asked for."""

from typing import Final

DONE: Final = 0
FAILED: Final = 1
WRONG_USAGE: Final = 2
WRONG_CONFIGURATION: Final = 78
"""`EX_CONFIG` of sysexits.h."""
INTERRUPTED: Final = 130
"""What shells report for a program that Ctrl-C ended: 128 and the number of SIGINT."""


class CommandFailed(Exception):
    """Ends a command with one line on standard error.

    Args:
        message: what is wrong, and what to do; one line, no secrets.
        exit_code: `FAILED` or `WRONG_USAGE`.
    """

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
