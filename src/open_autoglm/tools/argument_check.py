"""Checks arguments against a JSON schema: the part of the language that tools use, and nothing that may run away.

Checked: `type` (one or several), `enum`, `const`; `properties`, `required`, `additionalProperties`, `minProperties`,
`maxProperties`; `items`, `prefixItems`, `minItems`, `maxItems`, `uniqueItems`; `minLength`, `maxLength`, `minimum`,
`maximum`, `exclusive…`, `multipleOf`; `anyOf`, `oneOf`, `allOf`, `not`; `$ref` into the schema itself.
Not checked, and listed by `unchecked`: `pattern…` and `propertyNames` (a foreign expression may take for ever),
`format`, `content…`, `contains`, `unevaluated…`, `if`, `dependent…`, `$dynamicRef`. A `$ref` to elsewhere refuses all.

Invariants: no more than `STEPS_MAX` steps for one value, and no deeper than `DEPTH_MAX`: beyond either the value is
refused; a value that a checked keyword refuses is never passed. Source: JSON Schema, draft 2020-12.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, Final
from urllib.parse import unquote

import msgspec

Schema = dict[str, Any] | bool

STEPS_MAX: Final = 100_000
DEPTH_MAX: Final = 64
PROBLEMS_MAX: Final = 8
"""Told at once; whoever has more reads the schema again."""
_VALUE_CHARS_MAX: Final = 60

_UNCHECKED: Final = frozenset(
    {
        *("pattern", "patternProperties", "propertyNames", "format", "contentEncoding", "contentMediaType", "contains"),
        *("minContains", "maxContains", "unevaluatedItems", "unevaluatedProperties", "if", "then", "else"),
        *("dependentRequired", "dependentSchemas", "dependencies", "$dynamicRef", "$recursiveRef"),
    }
)
_HOLD_SCHEMAS: Final = ("properties", "$defs", "definitions")
_HOLD_SCHEMA: Final = ("items", "additionalProperties", "not")
_HOLD_LIST: Final = ("anyOf", "oneOf", "allOf", "prefixItems")

_IS_TYPE: Final[dict[str, Callable[[Any], bool]]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: (
        not isinstance(value, bool)
        and (isinstance(value, int) or (isinstance(value, float) and math.isfinite(value) and value.is_integer()))
    ),
}


def problems(schema: dict[str, Any], value: Any) -> list[str]:
    """What is wrong with a value, each with its place, as `$.items[2].name: …`; nothing when it fits.

    Args:
        schema: of the value.
        value: made of None, bool, int, float, str, list and dict with str keys.
    """
    check = _Check(schema)
    found: list[str] = []
    try:
        for problem in check.walk(schema, value, "$", 0):
            found.append(problem)
            if len(found) == PROBLEMS_MAX:
                break
    except _TooMuchError as error:
        found.append(str(error))
    except (TypeError, ValueError, AttributeError) as error:  # a keyword of the schema does not hold what it should
        found.append(f"the schema is malformed: {error}")
    return found


def unchecked(schema: dict[str, Any]) -> list[str]:
    """The keywords of a schema that `problems` does not look at, sorted; see the module."""
    found: set[str] = set()
    waiting: list[Any] = [schema]
    for _ in range(STEPS_MAX):
        if not waiting:
            break
        each = waiting.pop()
        if not isinstance(each, dict):
            continue
        found |= _UNCHECKED & each.keys()
        for name in _HOLD_SCHEMAS:
            waiting += each[name].values() if isinstance(each.get(name), dict) else ()
        for name in _HOLD_LIST:
            waiting += each[name] if isinstance(each.get(name), list) else ()
        waiting += [each[name] for name in _HOLD_SCHEMA if name in each]
    return sorted(found)


class _TooMuchError(Exception):
    """The value, or the schema, is too large to be checked."""


class _Check:
    """One value's walk through one schema."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._steps = 0

    def walk(self, schema: Any, value: Any, path: str, depth: int) -> Iterator[str]:
        """Every problem of `value`, which stands at `path`."""
        self._steps += 1
        if self._steps > STEPS_MAX or depth > DEPTH_MAX:
            raise _TooMuchError(f"{path}: too large or too deep to be checked")
        if schema is False:
            yield f"{path}: nothing may stand here"
        if not isinstance(schema, dict):
            return
        if "$ref" in schema:
            yield from self.walk(self._referred(schema["$ref"]), value, path, depth + 1)
        kinds = schema.get("type")
        if kinds is not None and not _is_one_of(kinds, value):
            yield f"{path}: expected {_either(kinds)}, got {_shown(value)}"
            return
        yield from _plain_problems(schema, value, path)
        if isinstance(value, dict):
            yield from self._object(schema, value, path, depth)
        elif isinstance(value, list):
            yield from self._array(schema, value, path, depth)
        yield from self._combined(schema, value, path, depth)

    def _object(self, schema: dict[str, Any], value: dict[str, Any], path: str, depth: int) -> Iterator[str]:
        known = schema.get("properties") or {}
        for name in schema.get("required") or ():
            if name not in value:
                yield f"{path}: {name!r} is missing"
        others = schema.get("additionalProperties", True)
        for name, each in value.items():
            if name in known:
                yield from self.walk(known[name], each, f"{path}.{name}", depth + 1)
            elif others is False and "patternProperties" not in schema:
                yield f"{path}: {name[:_VALUE_CHARS_MAX]!r} is not known; known are {', '.join(known) or 'none'}"
            elif isinstance(others, dict):
                yield from self.walk(others, each, f"{path}.{name[:_VALUE_CHARS_MAX]}", depth + 1)

    def _array(self, schema: dict[str, Any], value: list[Any], path: str, depth: int) -> Iterator[str]:
        first = schema.get("prefixItems") or []
        rest = schema.get("items", True)
        for index, each in enumerate(value):
            own = first[index] if index < len(first) else rest
            yield from self.walk(own, each, f"{path}[{index}]", depth + 1)
        if schema.get("uniqueItems") is True and len({_key(each) for each in value}) < len(value):
            yield f"{path}: holds the same value twice"

    def _combined(self, schema: dict[str, Any], value: Any, path: str, depth: int) -> Iterator[str]:
        for each in schema.get("allOf") or ():
            yield from self.walk(each, value, path, depth + 1)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                fitting = sum(1 for each in schema[keyword] if self._fits(each, value, path, depth + 1))
                if not fitting:
                    yield f"{path}: {_shown(value)} fits none of the {len(schema[keyword])} allowed forms"
                elif keyword == "oneOf" and fitting > 1:
                    yield f"{path}: {_shown(value)} fits {fitting} forms, and must fit one"
        if "not" in schema and self._fits(schema["not"], value, path, depth + 1):
            yield f"{path}: {_shown(value)} has a form that is forbidden"

    def _fits(self, schema: Any, value: Any, path: str, depth: int) -> bool:
        return next(self.walk(schema, value, path, depth), None) is None

    def _referred(self, reference: object) -> Any:
        """What `#/…` names; a reference that leads nowhere, or elsewhere, is too much to check."""
        found: Any = self._root
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise _TooMuchError(f"the schema refers to {reference!r}, which is not within it")
        for part in reference.split("/")[1:]:
            name = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and name.isascii() and name.isdigit() and int(name) < len(found):
                found = found[int(name)]
            elif isinstance(found, dict) and name in found:
                found = found[name]
            else:
                raise _TooMuchError(f"the schema refers to {reference!r}, which is not there")
        return found


def _plain_problems(schema: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    """Problems that need no look inside the value."""
    if "enum" in schema and _key(value) not in {_key(each) for each in schema["enum"]}:
        yield f"{path}: {_shown(value)} is none of {_shown(schema['enum'])}"
    if "const" in schema and _key(value) != _key(schema["const"]):
        yield f"{path}: {_shown(value)} is not {_shown(schema['const'])}"
    if isinstance(value, str | list | dict):
        least, most = {str: ("minLength", "maxLength"), list: ("minItems", "maxItems")}.get(
            type(value), ("minProperties", "maxProperties")
        )
        if len(value) < schema.get(least, 0):
            yield f"{path}: is shorter than {schema[least]}"
        if len(value) > schema.get(most, math.inf):
            yield f"{path}: is longer than {schema[most]}"
    elif _IS_TYPE["number"](value):
        yield from _number_problems(schema, value, path)


def _number_problems(schema: dict[str, Any], value: float, path: str) -> Iterator[str]:
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{path}: {value} is no JSON number"
        return
    if value < schema.get("minimum", -math.inf) or value <= _bound(schema, "exclusiveMinimum", -math.inf):
        yield f"{path}: {value} is too small"
    if value > schema.get("maximum", math.inf) or value >= _bound(schema, "exclusiveMaximum", math.inf):
        yield f"{path}: {value} is too large"
    step: Any = schema.get("multipleOf")
    if _IS_TYPE["number"](step) and step > 0 and Fraction(str(value)) % Fraction(str(step)):
        yield f"{path}: {value} is no multiple of {step}"


def _bound(schema: dict[str, Any], keyword: str, default: float) -> float:
    """An exclusive bound; old drafts write true or false there, which says nothing by itself."""
    value: Any = schema.get(keyword)
    return value if _IS_TYPE["number"](value) else default


def _is_one_of(kinds: Any, value: Any) -> bool:
    names = kinds if isinstance(kinds, list) else [kinds]
    return any(isinstance(name, str) and name in _IS_TYPE and _IS_TYPE[name](value) for name in names)


def _either(kinds: Any) -> str:
    return " or ".join(map(str, kinds)) if isinstance(kinds, list) else str(kinds)


def _key(value: Any) -> bytes:
    """The same for values that JSON Schema calls equal: 1 and 1.0, objects in any order; true is not 1."""
    return msgspec.json.encode(_plain(value), order="deterministic")


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return value


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _VALUE_CHARS_MAX else f"{text[: _VALUE_CHARS_MAX - 1]}…"
