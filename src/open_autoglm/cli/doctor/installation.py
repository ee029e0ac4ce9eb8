"""Is this a Python, and are these the libraries, that the server was tested with?"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from open_autoglm.cli.doctor.finding import Finding, fail, ok, warn
from open_autoglm.native import Form, current_form

PYTHON_MIN = (3, 11)
PYTHON_TESTED_MAX = (3, 13)
_REINSTALL = "install open-autoglm again, in an environment of its own"

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Library:
    """One line of the compatibility table.

    Attributes:
        name: of the distribution.
        minimum: oldest version that works, as `pyproject.toml` asks for it.
        tested: first numbers of the newest versions that tests have run with.
        optional: whether the server works without it, and if so, what is lost.
    """

    name: str
    minimum: Version
    tested: Version
    optional: str = ""


COMPATIBILITY = (
    Library("httptools", (0, 6, 4), (0, 9)),
    Library("msgspec", (0, 19), (0, 22)),
    Library("numpy", (1, 26), (2,)),
    Library("pyyaml", (6, 0, 2), (6,)),
    Library("starlette", (1, 0, 1), (1,)),
    Library("uvicorn", (0, 34), (0, 54)),
    Library("uvloop", (0, 21), (0, 23), "requests cost about a third more CPU on asyncio's own event loop"),
    Library("watchfiles", (1, 0), (1,)),
)


def check_python(version: Version, implementation: str) -> Finding:
    """Check the interpreter.

    Args:
        version: as `(3, 11, 2)`.
        implementation: as `cpython`.
    """
    shown = dotted(version)
    if version[:2] < PYTHON_MIN:
        return fail("python", f"{shown} is too old", f"use Python {dotted(PYTHON_MIN)} or newer")
    if implementation != "cpython":
        return warn("python", f"{shown} is {implementation}; only CPython is tested", "use CPython if something fails")
    if version[:2] > PYTHON_TESTED_MAX:
        return warn(
            "python",
            f"{shown} is newer than what was tested",
            f"use Python {dotted(PYTHON_TESTED_MAX)} if something fails",
        )
    return ok("python", shown)


def check_form(form: Form) -> Finding:
    """Say whether the request path is compiled, and whether what is compiled is current."""
    if form.problem:
        message, _, advice = form.problem.rpartition(": ")
        return warn("request path", message, advice)
    return ok("request path", form.name)


def check_library(library: Library, version_of: Callable[[str], str | None]) -> Finding:
    """Check one library.

    Args:
        library: a line of the table.
        version_of: returns the installed version of a distribution, or None.
    """
    installed = version_of(library.name)
    if installed is None:
        if library.optional:
            return warn(library.name, f"is not installed: {library.optional}", f"pip install {library.name}")
        return fail(library.name, "is not installed", _REINSTALL)
    version = parsed(installed)
    if version < library.minimum:
        return fail(library.name, f"{installed} is older than {dotted(library.minimum)}", _REINSTALL)
    if version[: len(library.tested)] > library.tested:
        return warn(
            library.name,
            f"{installed} is newer than the tested {dotted(library.tested)}",
            "go back to that if something fails",
        )
    return ok(library.name, installed)


def check_installation() -> list[Finding]:
    """Check the running interpreter and every library of the table."""
    python = check_python(tuple(sys.version_info[:3]), sys.implementation.name)
    form = check_form(current_form())
    return [python, form, *(check_library(library, installed_version) for library in COMPATIBILITY)]


def installed_version(name: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    from importlib import metadata  # slow to import, and only the doctor needs it

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def parsed(text: str) -> Version:
    """Return the leading numbers of a version: `2.0.1rc1` is `(2, 0, 1)`."""
    numbers = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)


def dotted(version: Version) -> str:
    """Write a version with dots."""
    return ".".join(map(str, version))
