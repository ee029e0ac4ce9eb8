"""Query parameters of the admin API: their description, and their reading by that description.

Invariant: what the OpenAPI document says of a parameter is what is accepted; anything else is a 400 that names it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from open_autoglm.errors import RequestError

TEXT_CHARS_MAX = 256
"""Longest text parameter: longer names do not exist."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter.

    Attributes:
        name: in the query.
        kind: what it holds.
        help: one line for people.
        minimum, maximum: of an integer, inclusive.
        empty: whether a text may be empty.
    """

    name: str
    kind: Literal["integer", "string", "boolean"]
    help: str
    minimum: int = 0
    maximum: int = 0
    empty: bool = False

    def schema(self) -> dict[str, Any]:
        """Return its JSON schema."""
        if self.kind == "integer":
            return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}
        if self.kind == "boolean":
            return {"type": "boolean"}
        return {"type": "string", "minLength": 0 if self.empty else 1, "maxLength": TEXT_CHARS_MAX}

    def read(self, raw: str) -> int | str | bool:
        """Return the value.

        Raises:
            RequestError: it is none of those described.
        """
        if self.kind == "integer":
            if raw.isascii() and raw.isdigit() and len(raw) <= 10 and self.minimum <= int(raw) <= self.maximum:
                return int(raw)
            raise self._wrong(raw, f"a whole number from {self.minimum} to {self.maximum}")
        if self.kind == "boolean":
            if raw in ("true", "false"):
                return raw == "true"
            raise self._wrong(raw, "true or false")
        if len(raw) > TEXT_CHARS_MAX or not (raw or self.empty):
            raise self._wrong(raw[:40], f"a text of at most {TEXT_CHARS_MAX} characters")
        return raw

    def _wrong(self, raw: str, wanted: str) -> RequestError:
        return RequestError("invalid_request", f"query parameter {self.name} is {raw!r}, not {wanted}", param=self.name)


def integer(name: str, minimum: int, maximum: int, help: str) -> Parameter:
    """Describe a whole number, both ends included."""
    return Parameter(name, "integer", help, minimum, maximum)


def text(name: str, help: str, *, empty: bool = False) -> Parameter:
    """Describe a text."""
    return Parameter(name, "string", help, empty=empty)


def flag(name: str, help: str) -> Parameter:
    """Describe a choice between true and false."""
    return Parameter(name, "boolean", help)


def read_query(parameters: Iterable[Parameter], given: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the values of those parameters that were given; unknown ones are ignored.

    Args:
        parameters: those that the route understands.
        given: names and decoded values, in the order in which they came.

    Raises:
        RequestError: a value is wrong, or a parameter came twice.
    """
    known = {parameter.name: parameter for parameter in parameters}
    values: dict[str, Any] = {}
    for name, raw in given:
        if name in values:
            raise RequestError("invalid_request", f"query parameter {name} came twice", param=name)
        if name in known:
            values[name] = known[name].read(raw)
    return values
