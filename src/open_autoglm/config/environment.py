"""The environment as configuration: `MCP__…` variables over the file, and vendors' variables in place of a file.

`MCP__SERVER__PORT=9000` sets `server.port`, `MCP__MODELS__0__TOKEN` the token of the first model; two underscores
separate levels. A value may be a list or a map in JSON. What is set this way stands in the tree like anything from the
file and is checked with it, so an unknown variable is refused like an unknown key.
"""

from collections.abc import Mapping as Environ
from dataclasses import replace

from open_autoglm.config.json_tree import parse_json
from open_autoglm.config.keys import canonical
from open_autoglm.config.planned import unavailable
from open_autoglm.config.problems import Place, Problems
from open_autoglm.config.tree import DEPTH_MAX, Entry, Mapping, Node, Scalar, Sequence, TreeError, is_nothing

PREFIX = "MCP__"
_SEPARATOR = "__"

OPENAI_URL = "https://api.openai.com/v1"
OLLAMA_PORT = 11434


def overlaid(root: Node, environ: Environ[str, str], problems: Problems) -> Node:
    """Put the `MCP__…` variables over a tree.

    Shorter paths go first, so `MCP__MODELS` may be refined by `MCP__MODELS__0__TOKEN`.
    """
    names = [name for name in environ if name.startswith(PREFIX)]
    for name in sorted(names, key=lambda name: (name.count(_SEPARATOR), name)):
        segments = name.removeprefix(PREFIX).split(_SEPARATOR)
        value = Scalar(environ[name], 0, True, name)
        try:
            if "" in segments or len(segments) > DEPTH_MAX:
                raise TreeError("is no path; write MCP__SECTION__KEY, two underscores between levels")
            root = _set(root, segments, value)
        except TreeError as error:
            problems.add("", error.message, place=Place(0, name))
    return root


def _set(node: Node, segments: list[str], value: Scalar) -> Node:
    """Return the tree with the value at the end of the path; what lies on the way is copied, since aliases share it."""
    if not segments:
        return value
    segment, rest = segments[0], segments[1:]
    node = _container(node, segment, value.origin)
    if isinstance(node, Sequence):
        return replace(node, items=_with_item(node.items, segment, rest, value))
    entries = list(node.entries)
    index = _position(entries, segment)
    if index is None:
        entries.append(Entry(segment, 0, _set(_nothing(value.origin), rest, value)))
    else:
        kept = entries[index]
        under = _set(kept.value, rest, value)
        entries[index] = Entry(kept.key, kept.line if rest else 0, under)
    return replace(node, entries=tuple(entries))


def _with_item(items: tuple[Node, ...], segment: str, rest: list[str], value: Scalar) -> tuple[Node, ...]:
    if not (segment.isascii() and segment.isdigit()) or len(segment) > 6 or int(segment) > len(items):
        count = len(items)
        raise TreeError(f"the list has {count} entries; write a number from 0 to {count} in place of {segment!r}")
    index = int(segment)
    old = items[index] if index < len(items) else _nothing(value.origin)
    return (*items[:index], _set(old, rest, value), *items[index + 1 :])


def _container(node: Node, segment: str, origin: str) -> Mapping | Sequence:
    """The list or map that a path leads through, made when there is nothing yet."""
    if isinstance(node, Scalar) and node.origin and node.text.lstrip()[:1] in ("{", "["):
        node = parse_json(node.text, node.origin)
    if isinstance(node, Scalar):
        if not is_nothing(node):
            raise TreeError("leads through a single value; a section is a list or a map")
        return Sequence((), node.line, origin) if segment.isdigit() else Mapping((), node.line, origin)
    return node


def _position(entries: list[Entry], segment: str) -> int | None:
    """Index of the key that a segment means: the very same, else the same in another notation."""
    for index, entry in enumerate(entries):
        if entry.key == segment:
            return index
    wanted = canonical(segment)
    for index, entry in enumerate(entries):
        if canonical(entry.key) == wanted:
            return index
    return None


def _nothing(origin: str) -> Scalar:
    return Scalar("", 0, True, origin)


def text_from_environment(environ: Environ[str, str]) -> tuple[str, list[str]]:
    """Write the configuration that stands in for a file when none is given.

    One vendor's variables give one model `*`, which takes every model name and sends it on; two cannot share it, so
    OPENAI_API_KEY goes before OLLAMA_HOST.

    Returns:
        The text of a file, without secrets since it refers to the variables, and warnings.
    """
    lines: list[str] = []
    warnings: list[str] = []
    if environ.get("OPENAI_API_KEY"):
        url = environ.get("OPENAI_BASE_URL") or OPENAI_URL
        lines += ["models:", '  - name: "*"', f"    endpoint: {_quoted(url)}", "    dialect: openai"]
        lines.append("    token: ${OPENAI_API_KEY}")
    if environ.get("OLLAMA_HOST"):
        if lines:
            warnings.append("`OLLAMA_HOST`: not used beside `OPENAI_API_KEY`; write a file with both as models")
        else:
            url = ollama_url(environ["OLLAMA_HOST"])
            lines += ["models:", '  - name: "*"', f"    endpoint: {_quoted(url)}", "    dialect: openai"]
    if environ.get("ANTHROPIC_API_KEY"):
        warnings.append(unavailable("dialect anthropic", "ANTHROPIC_API_KEY"))
    if environ.get("MCP_API_KEY"):
        lines.append("auth: {enabled: true, api_key: ${MCP_API_KEY}}")
    if environ.get("MCP_ADMIN_KEY"):
        lines.append("server: {admin_key: ${MCP_ADMIN_KEY}}")
    return "\n".join(lines) + "\n" if lines else "models: []\n", warnings


def ollama_url(host: str) -> str:
    """Turn the value of OLLAMA_HOST (`0.0.0.0`, `:11434`, `gpu-1:8000`, an address) into an address ending in /v1."""
    scheme, _, rest = host.strip().rpartition("://")
    authority, _, path = rest.partition("/")
    name, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        name, port = authority, ""
    if name in ("", "0.0.0.0"):  # noqa: S104 - what Ollama itself listens on; a client reaches it on loopback
        name = "127.0.0.1"
    default = {"http": 80, "https": 443}.get(scheme, OLLAMA_PORT)
    base = f"{scheme or 'http'}://{name}:{port or default}"
    return f"{base}/{path.strip('/')}/v1" if path.strip("/") else f"{base}/v1"


def _quoted(text: str) -> str:
    """Write a text in single quotes, as YAML does; references in it are not meant."""
    return "'" + text.replace("'", "''").replace("${", "$${") + "'"
