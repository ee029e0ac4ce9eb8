"""Where a command reads and writes: standard streams, or a test's.

Invariant: escape codes go to a terminal only, never into a pipe or a file; what others wrote cannot move the cursor.
Answers go to standard output; errors, warnings and hints to standard error.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TextIO

from open_autoglm.telemetry.redact import CONTROLS_IN_LINES, escape_controls

WIDTH_PIPED = 100
"""Columns of pictures that do not go to a terminal."""

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


@dataclass(slots=True)
class Terminal:
    """See the module.

    Attributes:
        out, err, inp: the streams.
        environ: environment variables, where keys and addresses are found.
        colour: whether `out` shows styles.
        interactive: whether a person types into `inp`.
        width: columns.
    """

    out: TextIO
    err: TextIO
    inp: TextIO
    environ: Mapping[str, str] = field(default_factory=dict)
    colour: bool = False
    interactive: bool = False
    width: int = WIDTH_PIPED

    def line(self, text: str = "") -> None:
        """Write one line of the answer."""
        self.out.write(text + "\n")

    def piece(self, text: str) -> None:
        """Write part of a line and show it at once."""
        self.out.write(text)
        self.out.flush()

    def json(self, value: object) -> None:
        """Write a value as JSON, indented, keys in the order given; letters as they are, controls as JSON's escapes."""
        text = json.dumps(value, indent=2, ensure_ascii=False)
        self.line(CONTROLS_IN_LINES.sub(lambda each: f"\\u{ord(each.group()):04x}", text))

    def error(self, message: str) -> None:
        """Write an error: the word, then what is wrong and what to do."""
        self.note(f"error: {message}")

    def warn(self, message: str) -> None:
        """Write a warning."""
        self.note(f"warning: {message}")

    def note(self, text: str) -> None:
        """Write a line that is not part of the answer; what went before it is shown first."""
        self.out.flush()
        self.err.write(escape_controls(text, keep_lines=True) + "\n")
        self.err.flush()

    def styled(self, text: str, style: str) -> str:
        """Put a style around a text, if `out` shows styles: bold, dim, red, green, yellow or cyan."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self.colour and text else text

    def shown(self, text: str) -> str:
        """Make somebody else's text fit to be written to `out`; a pipe gets it as it is."""
        return escape_controls(text, keep_lines=True) if self.out.isatty() else text


def standard_terminal() -> Terminal:
    """Return the process's own terminal.

    Nothing that is printed can fail for want of a letter in the terminal's encoding; input from a pipe is UTF-8.
    """
    for stream in (sys.stdout, sys.stderr):
        _reconfigure(stream, errors="replace")
    is_tty = sys.stdout.isatty()
    if not sys.stdin.isatty():
        _reconfigure(sys.stdin, encoding="utf-8", errors="replace")
    return Terminal(
        out=sys.stdout,
        err=sys.stderr,
        inp=sys.stdin,
        environ=os.environ,
        colour=is_tty and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
        interactive=sys.stdin.isatty() and is_tty,
        width=shutil.get_terminal_size((WIDTH_PIPED, 24)).columns if is_tty else WIDTH_PIPED,
    )


def _reconfigure(stream: TextIO, errors: str, encoding: str | None = None) -> None:
    """Change a stream's encoding where it can be changed; a test's `StringIO` cannot."""
    change = getattr(stream, "reconfigure", None)
    if change is not None:
        change(encoding=encoding, errors=errors)
