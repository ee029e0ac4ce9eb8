"""Values from JSON as an outline that reads like YAML: for pages whose fields nobody knows in advance.

Invariant: one field is one line, and nothing in it moves the cursor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from open_autoglm.telemetry.redact import clean

DEPTH_MAX = 16
"""Beyond it a value is shown as `…`: nothing that we show is so deep."""


def outline(value: object, depth: int = 0) -> Iterator[str]:
    """Yield the lines of a value.

    Args:
        value: of JSON's types.
        depth: how far it is indented, in steps of two columns.
    """
    indent = "  " * depth
    if depth > DEPTH_MAX:
        yield f"{indent}…"
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _field(f"{indent}{clean(str(key))}:", each, depth)
    elif isinstance(value, list):
        for each in value:
            yield from _field(f"{indent}-", each, depth)
    else:
        yield indent + _scalar(value)


def _field(label: str, value: object, depth: int) -> Iterator[str]:
    if isinstance(value, (Mapping, list)) and value:
        yield label
        yield from outline(value, depth + 1)
    else:
        yield f"{label} {_scalar(value)}"


def _scalar(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case {} | []:
            return "none"
        case float():
            return f"{value:g}"
        case _:
            return clean(str(value))
