"""What differs between two configurations, fit to be shown: secrets are `***`, but that they changed is told."""

from dataclasses import dataclass
from typing import Any

from msgspec import UNSET, Struct
from msgspec import structs as struct_of

from open_autoglm.config.schema import ServerConfig
from open_autoglm.config.tree import masked
from open_autoglm.secret import Secret

RESTART_PATHS = (
    "server.host",
    "server.port",
    "server.unix",
    "server.grpc_port",
    "server.admin_host",
    "server.admin_port",
    "server.admin_key",
    "server.workers",
    "server.data_dir",
    "tls",
    "tools",
    "context",
    "runs",
    "logging.file",
    "logging.format",
    "audit.enabled",
    "audit.file",
    "audit.key",
    "audit.keep",
    "audit.file_bytes",
    "audit.durable",
    "cluster",
)
"""What a running server cannot change: sockets that are open, folders and files that are in use."""


@dataclass(frozen=True, slots=True)
class Change:
    """One value that differs.

    Attributes:
        path: as `models[chat].weight`; entries of a list go by their name, with `#2` for the second of a name.
        before: None when it was not there; else a JSON-able value without secrets.
        after: the same.
    """

    path: str
    before: Any
    after: Any


def diff_configs(a: ServerConfig, b: ServerConfig) -> list[Change]:
    """List what changes from `a` to `b`, in the order of the sections. Equal configurations give an empty list."""
    changes: list[Change] = []
    _compare("", a, b, changes)
    return changes


def needs_restart(changes: list[Change]) -> list[Change]:
    """Those of the changes that a running server cannot carry out."""
    return [change for change in changes if any(_within(change.path, path) for path in RESTART_PATHS)]


def _within(path: str, section: str) -> bool:
    return path == section or path.startswith(f"{section}.")


def _compare(path: str, a: Any, b: Any, changes: list[Change]) -> None:
    if a == b:
        return
    if isinstance(a, Struct) and type(a) is type(b):
        for field in struct_of.fields(a):
            here = f"{path}.{field.encode_name}" if path else field.encode_name
            _compare(here, getattr(a, field.name), getattr(b, field.name), changes)
    elif isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(key for key in b if key not in a)]:
            _compare(f"{path}.{key}", a.get(key), b.get(key), changes)
    elif _is_named_list(a) and _is_named_list(b):
        before, after = _by_name(a), _by_name(b)
        for label in [*before, *(label for label in after if label not in before)]:
            _compare(f"{path}[{label}]", before.get(label), after.get(label), changes)
    else:
        changes.append(Change(path, _shown(a), _shown(b)))


def _is_named_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, Struct) and hasattr(each, "name") for each in value)


def _by_name(entries: list[Any]) -> dict[str, Any]:
    """Entries of a list by their name; the second of a name has `#2` after it."""
    count: dict[str, int] = {}
    named: dict[str, Any] = {}
    for entry in entries:
        count[entry.name] = number = count.get(entry.name, 0) + 1
        named[entry.name if number == 1 else f"{entry.name}#{number}"] = entry
    return named


def _shown(value: Any) -> Any:
    """A value without secrets, of plain types."""
    if isinstance(value, Secret):
        return repr(value)
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Struct):
        fields = ((field.encode_name, getattr(value, field.name)) for field in struct_of.fields(value))
        return {name: _shown(each) for name, each in fields if each is not UNSET}
    if isinstance(value, dict):
        return {key: _shown(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_shown(each) for each in value]
    return None if value is UNSET else value
