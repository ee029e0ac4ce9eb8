"""The configuration described from its own types: a JSON schema for editors and the reference page.

`python -m open_autoglm.config.reference` writes `mcp_config.schema.json` and `docs/configuration.md`, from the root of
the repository; a test keeps them up to date. Meanings come from the structs' docstrings, ranges from their types.
"""

import inspect
import json
import re
from pathlib import Path
from typing import Any, Final

from msgspec import NODEFAULT, UNSET, Struct
from msgspec import inspect as shape

from open_autoglm.config.document import ConfigDocument
from open_autoglm.config.keys import ALIASES
from open_autoglm.config.planned import NOTES
from open_autoglm.config.reference_text import AFTER, BEFORE
from open_autoglm.config.walker import expectation, struct_type

SCHEMA_FILE = "mcp_config.schema.json"
PAGE_FILE = "docs/configuration.md"

_REFERENCE: Final = {"$ref": "#/$defs/reference"}
_NULL: Final = {"type": "null"}
_SHARED: Final[dict[str, Any]] = {
    "reference": {
        "description": "an environment variable, as ${NAME}",
        "type": "string",
        "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*\}",
    },
    "duration": {
        "description": "500ms, 2s, 5m, 72h, or a number of seconds",
        "type": "string",
        "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(ms|s|m|min|h|d)?\s*$",
    },
    "size": {
        "description": "64KiB, 32MiB, 1GiB, 10MB, or a number of bytes",
        "type": "string",
        "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*([KMGTkmgt][Ii]?[Bb]|[Bb])?\s*$",
    },
}
_ATTRIBUTE = re.compile(r"([a-z_][a-z0-9_]*): (.*)")


def json_schema() -> dict[str, Any]:
    """Make a JSON schema (draft 2020-12) of a configuration, with `${ENV}` allowed wherever a value is."""
    definitions = dict(_SHARED)
    root = _object(ConfigDocument, definitions, "#")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of the open-autoglm server",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def markdown() -> str:
    """Write the reference page."""
    lines = [BEFORE]
    for field in struct_type(ConfigDocument).fields:
        structs = _sections(field.type, field.encode_name)
        for path, struct in structs:
            lines += [f"### `{path}`", "", _summary(struct), "", *_table(struct), ""]
    loose = [field for field in struct_type(ConfigDocument).fields if not _sections(field.type, field.encode_name)]
    lines += ["### Keys at the top level", "", *_rows(ConfigDocument, loose), ""]
    lines += ["## Understood, not available in this version", ""]
    lines += ["Each of these is checked, and answered with one warning when it is used.", ""]
    lines += ["| key | what happens instead |", "|---|---|"]
    lines += [f"| `{key}` | {note} |" for key, note in NOTES.items()]
    return "\n".join([*lines, "", AFTER])


def meanings(struct: type) -> dict[str, str]:
    """Read what a struct's docstring says of each field, by the field's name in Python."""
    base = struct.__base__
    found = meanings(base) if base is not None and base is not Struct and issubclass(base, Struct) else {}
    _, _, attributes = (inspect.getdoc(struct) or "").partition("Attributes:\n")
    name = ""
    for line in attributes.splitlines():
        match = _ATTRIBUTE.fullmatch(line.strip()) if line.startswith("    ") and line[4:5] != " " else None
        if match is not None:
            name = match[1]
            found[name] = match[2]
        elif name and line.strip():
            found[name] += " " + line.strip()
    return found


def _summary(struct: type) -> str:
    return " ".join((inspect.getdoc(struct) or "").partition("Attributes:")[0].split())


def _object(struct: type, definitions: dict[str, Any], location: str) -> dict[str, Any]:
    """Schema of a map with known keys; other notations of a key refer to it."""
    said = meanings(struct)
    properties: dict[str, Any] = {}
    variants: dict[str, Any] = {}
    required: list[str] = []
    for field in struct_type(struct).fields:
        schema = _value(field.type, definitions)
        if not field.required:
            schema = _or(schema, _NULL)
        properties[field.encode_name] = {"description": said[field.name], **schema, **_default(field)}
        for pattern in _notations(field.encode_name):
            variants[pattern] = {"$ref": f"{location}/properties/{field.encode_name}"}
        if field.required:
            required.append(field.encode_name)
    made: dict[str, Any] = {"description": _summary(struct), "type": "object", "properties": properties}
    if variants:
        made["patternProperties"] = variants
    if required:
        made["required"] = required
    return {**made, "additionalProperties": False}


def _value(type_: shape.Type, definitions: dict[str, Any]) -> dict[str, Any]:
    match type_:
        case shape.Metadata(type=inner, extra={"quantity": str(quantity)}):
            return {"anyOf": [{"type": "number", **_range(inner)}, {"$ref": f"#/$defs/{quantity}"}, _REFERENCE]}
        case shape.IntType():
            return {"anyOf": [{"type": "integer", **_range(type_)}, _REFERENCE]}
        case shape.FloatType():
            return {"anyOf": [{"type": "number", **_range(type_)}, _REFERENCE]}
        case shape.BoolType():
            return {"anyOf": [{"type": "boolean"}, _REFERENCE]}
        case shape.LiteralType(values=values):
            return {"anyOf": [{"enum": list(values)}, _REFERENCE]}
        case shape.UnionType(types=types):
            [some] = [each for each in types if not isinstance(each, shape.NoneType)]
            return _value(some, definitions)
        case shape.ListType(item_type=item):
            made = _value(item, definitions)
            many = {"type": "array", "items": made}
            return _or(many, made) if isinstance(item, shape.StrType | shape.CustomType) else many
        case shape.DictType(value_type=value):
            return {"type": "object", "additionalProperties": _value(value, definitions)}
        case shape.AnyType():
            return {}
        case shape.StructType(cls=cls):
            if cls.__name__ not in definitions:
                definitions[cls.__name__] = {}  # a place first, in case a struct should hold itself
                definitions[cls.__name__] = _object(cls, definitions, f"#/$defs/{cls.__name__}")
            return {"$ref": f"#/$defs/{cls.__name__}"}
    return {"type": "string"}


def _or(schema: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    if list(schema) == ["anyOf"]:
        return {"anyOf": [*schema["anyOf"], other]}
    return {"anyOf": [schema, other]}


def _range(type_: shape.Type) -> dict[str, Any]:
    assert isinstance(type_, shape.IntType | shape.FloatType)
    limits = {
        "minimum": type_.ge,
        "exclusiveMinimum": type_.gt,
        "maximum": type_.le,
        "exclusiveMaximum": type_.lt,
    }
    return {name: limit for name, limit in limits.items() if limit is not None}


def _notations(key: str) -> list[str]:
    """Patterns of the other ways to write a key, aliases included."""
    patterns = []
    for name in [key, *(alias for alias, meant in ALIASES.items() if meant == key)]:
        first, *rest = name.split("_")
        others = [first + "".join(word.capitalize() for word in rest), "-".join([first, *rest])] if rest else []
        if name != key:
            others.append(name)
        patterns += [f"^{other}$" for other in others]
    return patterns


def _default(field: shape.Field) -> dict[str, Any]:
    value = _default_value(field)
    plain = isinstance(value, str | int | float | bool) or value in ([], {})
    return {"default": value} if plain else {}


def _default_value(field: shape.Field) -> Any:
    if field.default_factory is not NODEFAULT:
        return field.default_factory()
    return None if field.default in (NODEFAULT, UNSET) else field.default


def _sections(type_: shape.Type, path: str) -> list[tuple[str, type[Struct]]]:
    """The structs under a field, with the path at which each is written, the outermost first."""
    match type_:
        case shape.StructType(cls=cls):
            inner = [_sections(field.type, f"{path}.{field.encode_name}") for field in struct_type(cls).fields]
            return [(path, cls), *(section for sections in inner for section in sections)]
        case shape.UnionType(types=types):
            return [section for each in types for section in _sections(each, path)]
        case shape.ListType(item_type=item):
            return _sections(item, f"{path}[]")
        case shape.DictType(value_type=value):
            return _sections(value, f"{path}.NAME")
    return []


def _table(struct: type) -> list[str]:
    return _rows(
        struct, [field for field in struct_type(struct).fields if not isinstance(field.type, shape.StructType)]
    )


def _rows(struct: type, fields: list[shape.Field]) -> list[str]:
    said = meanings(struct)
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for field in sorted(fields, key=lambda field: not field.required):
        default = "**required**" if field.required else _shown_default(field)
        meaning = said[field.name].replace("|", "\\|")
        rows.append(f"| `{field.encode_name}` | {_kind(field.type)} | {default} | {meaning} |")
    return rows


def _kind(type_: shape.Type) -> str:
    """Say in words what a value of this type looks like."""
    match type_:
        case shape.Metadata(extra={"quantity": str(quantity)}):
            return f"a {quantity}"
        case shape.UnionType(types=types):
            [some] = [each for each in types if not isinstance(each, shape.NoneType)]
            return _kind(some)
        case shape.ListType(item_type=item):
            return f"list; each {_kind(item)}"
        case shape.DictType(value_type=value):
            return f"map of names; each {_kind(value)}"
        case shape.StructType():
            return "a map, see below"
        case shape.AnyType():
            return "any value"
        case shape.CustomType():
            return "a secret: the value, `${ENV}` or `file:PATH`"
    return expectation(type_)


def _shown_default(field: shape.Field) -> str:
    value = _default_value(field)
    if value is None or value in ([], {}) or isinstance(value, Struct):
        return "–"
    type_ = field.type.types[0] if isinstance(field.type, shape.UnionType) else field.type
    quantity = type_.extra.get("quantity") if isinstance(type_, shape.Metadata) and type_.extra else None
    if quantity == "duration":
        hours, rest = divmod(value, 3600.0)
        return f"`{value:g}s`" if rest or not hours else f"`{hours:g}h`"
    if quantity == "size":
        return f"`{_size(value)}`"
    return f"`{json.dumps(value, ensure_ascii=False)}`" if isinstance(value, str | bool) else f"`{value:g}`"


def _size(value: int) -> str:
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if value % unit == 0:
            return f"{value // unit}{name}"
    return str(value)


def schema_text() -> str:
    """The schema as it stands in its file."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(SCHEMA_FILE).write_text(schema_text(), encoding="utf-8")
    Path(PAGE_FILE).parent.mkdir(exist_ok=True)
    Path(PAGE_FILE).write_text(markdown(), encoding="utf-8")
