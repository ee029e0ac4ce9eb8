"""A tree read as a document: every value checked against the type of its field, every problem kept.

The types are those of `document.py`, looked into by `msgspec.inspect`. A value that is wrong is recorded and then
treated as left out, so that one pass finds everything; nobody sees the document unless nothing was found.
"""

import math
import re
from functools import cache
from typing import Any, Final

from msgspec import inspect as shape

from open_autoglm.config.document import ConfigDocument
from open_autoglm.config.json_tree import parse_json
from open_autoglm.config.keys import (
    COMPARED_CHARACTERS_MAX,
    FOREIGN_NAMES,
    NAME_RULE,
    alike,
    canonical,
    is_name,
    nearest,
    shown_key,
)
from open_autoglm.config.problems import Place, Problems
from open_autoglm.config.substitution import Refused, Substitution
from open_autoglm.config.tree import Entry, Mapping, Node, Scalar, Sequence, TreeError, describe, is_nothing, shorten
from open_autoglm.quantities import parse_duration, parse_size
from open_autoglm.secret import Secret

TEXT_CHARACTERS_MAX = 4096
"""Of one text: longer than any address or path that works."""

_LEFT_OUT: Final = object()
_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_INT = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_FLOAT = re.compile(r"-?(?:(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{1,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,3})?")
_NOTATIONS = {
    "duration": (parse_duration, "a duration like 500ms, 2s, 5m or a number of seconds"),
    "size": (parse_size, "a size like 64KiB, 32MiB or a number of bytes"),
}


@cache
def struct_type(struct: type) -> shape.StructType:
    """Look into a struct."""
    type_ = shape.type_info(struct)
    assert isinstance(type_, shape.StructType)
    return type_


class Walker:
    """Reads one tree.

    Args:
        substitution: resolves references in values.
        problems: where problems and places are kept.
    """

    __slots__ = ("_problems", "_substitution")

    def __init__(self, substitution: Substitution, problems: Problems) -> None:
        self._substitution = substitution
        self._problems = problems

    def document(self, root: Node) -> ConfigDocument:
        """Read the whole configuration. What was wrong is in `problems`; the result is of use only if nothing was."""
        if not isinstance(root, Mapping):
            self._problems.add("", f"a configuration is a map of sections such as `models:`, this is {describe(root)}")
            return ConfigDocument()
        document: ConfigDocument = self._struct(struct_type(ConfigDocument), root, "")
        return document

    def _read(self, type_: shape.Type, node: Node, path: str) -> Any:
        """Read a value; `_LEFT_OUT` when it is null or wrong."""
        if is_nothing(node):
            return _LEFT_OUT
        try:
            match type_:
                case shape.Metadata(type=inner, extra={"quantity": str(quantity)}):
                    return self._quantity(inner, quantity, node)
                case shape.UnionType(types=types):
                    [some] = [each for each in types if not isinstance(each, shape.NoneType)]
                    return self._read(some, node, path)
                case shape.StructType():
                    return self._struct(type_, self._unfolded(node), path)
                case shape.ListType(item_type=item, max_length=most):
                    values = self._list(item, self._unfolded(node), path)
                    if most is not None and len(values) > most:
                        raise Refused(f"has {len(values)} entries; {most} are the most")
                    return values
                case shape.DictType(value_type=shape.AnyType()):
                    node = self._unfolded(node)
                    if not isinstance(node, Mapping):
                        raise Refused(f"expected a map, got {_named(node)}")
                    return self._free(node)
                case shape.DictType(value_type=value):
                    return self._dict(value, self._unfolded(node), path)
            return self._scalar(type_, node)
        except (Refused, TreeError) as error:
            self._problems.add(path, str(error))
            return _LEFT_OUT

    def _struct(self, type_: shape.StructType, node: Node, path: str) -> Any:
        if not isinstance(node, Mapping):
            raise Refused(f"expected a map with {_some(_fields(type_.cls))}, got {_named(node)}")
        fields = _fields(type_.cls)
        values: dict[str, Any] = {}
        seen: dict[str, int] = {}
        for entry in node.entries:
            key = canonical(entry.key)
            field = fields.get(key)
            if field is None:
                self._unknown(entry, path, fields)
                continue
            here = f"{path}.{key}" if path else key
            if key in seen:
                where = f", first on line {seen[key]}" if seen[key] else ""
                self._problems.add(here, f"is written twice{where}; keep one", place=_place(entry))
                continue
            seen[key] = entry.line
            self._problems.places[here] = _place(entry)
            value = self._read(field.type, entry.value, here)
            if value is not _LEFT_OUT:
                values[field.name] = value
        self._fill(type_.cls, values, path)
        return type_.cls(**values)

    def _fill(self, struct: type, values: dict[str, Any], path: str) -> None:
        """Complain of required fields that are missing, and fill them so that the struct can be made."""
        for key, field in _fields(struct).items():
            if field.required and field.name not in values:
                here = f"{path}.{key}" if path else key
                if here not in self._problems.bad:
                    self._problems.add(here, "is missing")
                values[field.name] = _blank(field.type)

    def _list(self, item: shape.Type, node: Node, path: str) -> Any:
        if isinstance(node, Scalar) and isinstance(item, shape.StrType | shape.CustomType):
            node = Sequence((node,), node.line, node.origin)  # one value where a list of them may stand
        if not isinstance(node, Sequence):
            raise Refused(f"expected a list, got {_named(node)}")
        values = []
        for index, each in enumerate(node.items):
            here = f"{path}[{index}]"
            self._problems.places[here] = Place(each.line, each.origin)
            if is_nothing(each):
                self._problems.add(here, "is empty; write a value or remove the entry")
            value = self._read(item, each, here)
            # A gap keeps its place, so that the paths of what follows stay true.
            values.append(_blank(item) if value is _LEFT_OUT else value)
        return values

    def _dict(self, value_type: shape.Type, node: Node, path: str) -> Any:
        if not isinstance(node, Mapping):
            raise Refused(f"expected a map of names, got {_named(node)}")
        values: dict[str, Any] = {}
        for entry in node.entries:
            here = f"{path}.{shown_key(entry.key)}"
            if entry.key in values:
                self._problems.add(here, "is written twice; keep one", place=_place(entry))
                continue
            self._problems.places[here] = _place(entry)
            if not is_name(entry.key):
                self._problems.add(here, f"is no name; a name is {NAME_RULE}")
                continue
            value = self._read(value_type, entry.value, here)
            values[entry.key] = _blank(value_type) if value is _LEFT_OUT else value
        return values

    def _scalar(self, type_: shape.Type, node: Node) -> Any:
        if isinstance(type_, shape.CustomType):
            if not isinstance(node, Scalar):
                raise Refused("expected a secret: the value, ${NAME} or file:PATH")
            return self._substitution.secret(node)
        expected = expectation(type_)
        if not isinstance(node, Scalar):
            raise Refused(f"expected {expected}, got {_named(node)}")
        text, substituted = self._substitution.expand(node)
        if isinstance(type_, shape.StrType):
            return _text(text, type_.max_length)
        value: str | int | float | None
        if isinstance(type_, shape.LiteralType):
            value = _choice(type_, text)
        elif node.plain or substituted:
            value = _bare(type_, text.strip())
        else:
            value = None
            expected += " without quotes"
        if value is None:
            raise Refused(f"expected {expected}, got {shorten(node.text)}")
        return value

    def _free(self, node: Node) -> Any:
        """Any JSON value, as a schema is made of."""
        match node:
            case Mapping(entries=entries):
                if len({entry.key for entry in entries}) < len(entries):
                    raise Refused("holds a key twice; keep one")
                return {entry.key: self._free(entry.value) for entry in entries}
            case Sequence(items=items):
                return [self._free(each) for each in items]
        if is_nothing(node):
            return None
        text, substituted = self._substitution.expand(node)
        if node.plain or substituted:
            for type_ in (shape.BoolType(), shape.IntType(), shape.FloatType()):
                value = _bare(type_, text.strip())
                if value is not None:
                    return value
        return _text(text)

    def _quantity(self, type_: shape.Type, quantity: str, node: Node) -> float | int:
        parse, notation = _NOTATIONS[quantity]
        if not isinstance(node, Scalar):
            raise Refused(f"expected {notation}, got {_named(node)}")
        text, _ = self._substitution.expand(node)
        try:
            value = parse(text)
        except ValueError:
            raise Refused(f"expected {notation}, got {shorten(node.text)}") from None
        if not _in_range(type_, value):
            raise Refused(f"expected {notation}, {bounds(type_, quantity)}, got {shorten(node.text)}")
        return value

    def _unfolded(self, node: Node) -> Node:
        """A list or map that an environment variable holds as JSON; any other value as it is."""
        if isinstance(node, Scalar) and node.origin and node.text.lstrip()[:1] in ("{", "["):
            return parse_json(node.text, node.origin)
        return node

    def _unknown(self, entry: Entry, path: str, fields: dict[str, shape.Field]) -> None:
        here = f"{path}.{shown_key(entry.key)}" if path else shown_key(entry.key)
        if self._problems.full:
            self._problems.add(here, "")  # counted only
            return
        key = canonical(entry.key[:COMPARED_CHARACTERS_MAX])
        foreign = FOREIGN_NAMES.get(key, "") in fields
        near = FOREIGN_NAMES[key] if foreign else nearest(key, fields)
        elsewhere = [known for known in _known_paths() if known.rpartition(".")[2] == key]
        if foreign or alike(key, near) or not elsewhere:
            hint = near
            # What was meant is missing too, then, but that is one mistake.
            self._problems.bad.add(f"{path}.{near}" if path else near)
        else:
            hint = elsewhere[0]
        message = f"unknown key {shorten(entry.key)}; the nearest known key is `{hint}`"
        self._problems.add(here, message, place=_place(entry))


def expectation(type_: shape.Type) -> str:
    """Say in words what a scalar of this type looks like, range included."""
    match type_:
        case shape.BoolType():
            return "true or false"
        case shape.LiteralType(values=values):
            return "one of " + ", ".join(str(value) for value in values)
        case shape.IntType():
            return f"a whole number {bounds(type_)}".strip()
        case shape.FloatType():
            return f"a number {bounds(type_)}".strip()
    return "a text"


def bounds(type_: shape.Type, quantity: str = "") -> str:
    """Say in words the range of a number, as `from 1 to 20`; empty when there is none."""
    if not isinstance(type_, shape.IntType | shape.FloatType):
        return ""
    unit = {"duration": " s", "size": " bytes"}.get(quantity, "")
    low = "" if type_.ge is None else f"{type_.ge:g}" if abs(type_.ge) < 10**6 else f"{type_.ge}"
    high = "" if type_.le is None else f"{type_.le:g}" if abs(type_.le) < 10**6 else f"{type_.le}"
    if type_.gt is not None or type_.lt is not None:
        words = [(low and f"from {low}", "above", type_.gt), (high and f"to {high}", "below", type_.lt)]
        return ", ".join(word or f"{name} {limit:g}" for word, name, limit in words if word or limit is not None)
    if low and high:
        return f"from {low} to {high}{unit}"
    return f"{low}{unit} or more" if low else f"{high}{unit} or less" if high else ""


@cache
def _fields(struct: type) -> dict[str, shape.Field]:
    return {field.encode_name: field for field in struct_type(struct).fields}


@cache
def _known_paths() -> tuple[str, ...]:
    """Paths of every key, for hints about keys that stand in the wrong section."""
    paths: list[str] = []

    def visit(struct: type, prefix: str) -> None:
        for key, field in _fields(struct).items():
            paths.append(f"{prefix}{key}")
            for inner in _structs_in(field.type):
                visit(inner, f"{prefix}{key}.")

    visit(ConfigDocument, "")
    return tuple(paths)


def _structs_in(type_: shape.Type) -> list[type]:
    match type_:
        case shape.StructType(cls=cls):
            return [cls]
        case shape.UnionType(types=types):
            return [cls for each in types for cls in _structs_in(each)]
        case shape.ListType(item_type=inner) | shape.DictType(value_type=inner):
            return _structs_in(inner)
    return []


def _place(entry: Entry) -> Place:
    return Place(entry.line, entry.value.origin)


def _named(node: Node) -> str:
    """Name a value that stands where a section is expected; its text may be a secret and is not repeated."""
    return "a single value" if isinstance(node, Scalar) else describe(node)


def _some(fields: dict[str, shape.Field]) -> str:
    first = list(fields)[:3]
    return ", ".join(f"`{key}`" for key in first) + (" …" if len(fields) > len(first) else "")


def _blank(type_: shape.Type) -> Any:
    """A stand-in for a value that is missing or wrong, of the right type."""
    match type_:
        case shape.CustomType():
            return Secret("missing")
        case shape.ListType():
            return []
        case shape.LiteralType(values=values):
            return values[0]
        case shape.StructType(cls=cls):
            return cls(**{field.name: _blank(field.type) for field in _fields(cls).values() if field.required})
    return ""


def _text(text: str, most: int | None = None) -> str:
    most = TEXT_CHARACTERS_MAX if most is None else most
    if len(text) > most:
        raise Refused(f"has {len(text)} characters; no value needs more than {most}")
    # isprintable() is also false for lone surrogates, which cannot be written anywhere.
    if not text.isprintable():
        raise Refused("holds a control character or a line break")
    return text


def _choice(type_: shape.LiteralType, text: str) -> str | int | None:
    wanted = canonical(text.strip())
    return next((value for value in type_.values if str(value).lower() == wanted), None)


def _bare(type_: shape.Type, text: str) -> bool | int | float | None:
    """Read an unquoted word as a truth value or a number within its range; None when it is none."""
    if isinstance(type_, shape.BoolType):
        return _TRUTH.get(text.lower())
    if isinstance(type_, shape.IntType):
        value: int | float | None = int(text) if _INT.fullmatch(text) else None
    else:
        value = float(text) if _FLOAT.fullmatch(text) else None
    return value if value is not None and _in_range(type_, value) else None


def _in_range(type_: shape.Type, value: float) -> bool:
    assert isinstance(type_, shape.IntType | shape.FloatType)
    low = type_.ge is None or value >= type_.ge
    high = type_.le is None or value <= type_.le
    inside = (type_.gt is None or value > type_.gt) and (type_.lt is None or value < type_.lt)
    return low and high and inside and math.isfinite(value)
