"""A terminal whose streams are kept, for tests of commands."""

from __future__ import annotations

import io

from open_autoglm.cli.terminal import Terminal


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def piped(typed: str = "", **environ: str) -> Terminal:
    """A terminal whose streams are pipes."""
    return Terminal(io.StringIO(), io.StringIO(), io.StringIO(typed), environ)


def screen(width: int = 80, **environ: str) -> Terminal:
    """A terminal that somebody looks at."""
    return Terminal(Screen(), Screen(), Screen(), environ, colour=True, interactive=True, width=width)


def out(terminal: Terminal) -> str:
    """What was written to standard output."""
    assert isinstance(terminal.out, io.StringIO)
    return terminal.out.getvalue()


def err(terminal: Terminal) -> str:
    """What was written to standard error."""
    assert isinstance(terminal.err, io.StringIO)
    return terminal.err.getvalue()
