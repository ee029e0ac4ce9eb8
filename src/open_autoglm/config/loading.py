"""From a file, the environment or a text to a `ServerConfig`: whole, with every problem named, or not at all."""

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec import structs as struct_of

from open_autoglm.config.checks import Checks
from open_autoglm.config.environment import overlaid, text_from_environment
from open_autoglm.config.json_tree import parse_json
from open_autoglm.config.problems import Problems
from open_autoglm.config.resolve import Resolver, served_routing
from open_autoglm.config.schema import ServerConfig
from open_autoglm.config.substitution import Substitution, reason
from open_autoglm.config.tree import TEXT_BYTES_MAX, Node, TreeError
from open_autoglm.config.walker import Walker
from open_autoglm.config.yaml_tree import parse_yaml
from open_autoglm.errors import ConfigError, ConfigProblem

ENVIRONMENT = "the environment"
"""Source of a configuration that was loaded without a file."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be used.

    Attributes:
        config: the configuration.
        warnings: one for each thing that is understood but will not happen, or is risky; each begins with its key.
        text: what it was read from. It may hold secrets: never show it.
        digest: SHA-256 of the text in UTF-8, 64 hex digits; of a file, what `sha256sum` prints.
        source: name of the file, or where else it came from.
    """

    config: ServerConfig
    warnings: list[str]
    text: str = field(repr=False)
    digest: str
    source: str


def load_config(path: str | None, environ: Mapping[str, str], *, insecure: bool = False) -> Loaded:
    """Load the configuration of a server.

    Args:
        path: a YAML or JSON file; None to make do with the environment (OPENAI_API_KEY, OLLAMA_HOST, MCP__…).
        environ: the environment variables.
        insecure: whether a public address without authentication is allowed.

    Raises:
        ConfigError: with every problem that was found; a file that cannot be read is one.
    """
    if path is None:
        text, warnings = text_from_environment(environ)
        try:
            loaded = parse_config(text, source=ENVIRONMENT, environ=environ, trusted=True, insecure=insecure)
        except ConfigError as error:
            # Nobody has written the text, so its lines mean nothing.
            unwritten = [ConfigProblem(problem.path, 0, problem.message) for problem in error.problems]
            raise ConfigError(ENVIRONMENT, unwritten) from None
        return Loaded(loaded.config, warnings + loaded.warnings, text, loaded.digest, ENVIRONMENT)
    data, mode = _read_file(path)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _failed(path, "is not UTF-8 text; save it as UTF-8", line) from None
    return _parse(
        text,
        source=path,
        substitution=Substitution(environ, os.path.dirname(os.path.abspath(path)), trusted=True),
        environ=environ,
        insecure=insecure,
        readable_by_others=bool(mode & 0o044),
    )


def parse_config(
    text: str, *, source: str, environ: Mapping[str, str], trusted: bool, insecure: bool = False
) -> Loaded:
    """Check a text that is a configuration.

    Args:
        text: YAML or JSON; which of them is told by the end of `source`, else by the first character.
        source: name for messages.
        environ: the environment variables; `MCP__…` ones go over the text.
        trusted: whether `${NAME}` and `file:PATH` in it are resolved, and functions that it names imported to look at
            them; False for what came over the network.
        insecure: whether a public address without authentication is allowed.

    Raises:
        ConfigError: with every problem that was found.
    """
    substitution = Substitution(environ, "", trusted=trusted)
    return _parse(text, source=source, substitution=substitution, environ=environ, insecure=insecure)


def _parse(
    text: str,
    *,
    source: str,
    substitution: Substitution,
    environ: Mapping[str, str],
    insecure: bool,
    readable_by_others: bool = False,
) -> Loaded:
    problems = Problems()
    try:
        root = overlaid(_tree(text.removeprefix("\ufeff"), source), environ, problems)
    except TreeError as error:
        raise _failed(source, error.message, error.line) from None
    document = Walker(substitution, problems).document(root)
    resolver = Resolver(document, substitution, problems)
    config = resolver.config()
    Checks(config, problems, resolver.warnings, resolver.written, resolver.flat, insecure, substitution.trusted).run()
    if problems.found:
        raise ConfigError(source, problems.listed())
    if readable_by_others and substitution.inline:
        resolver.warnings.append(
            f"`{source}`: holds secrets, and others can read it; run `chmod 600` on it, or write ${{ENV}} or file:PATH"
        )
    served = {model.name for model in config.models} | set(config.cooperation)
    if config.cluster.secret is None:  # else nodes may serve what nothing here does
        config = struct_of.replace(config, routing=served_routing(config.routing, served))
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return Loaded(config, resolver.warnings, text, digest, source)


def _tree(text: str, source: str) -> Node:
    """Read a text as what it is: by its name, else JSON when it begins with a brace, which YAML may do too."""
    if len(text) > TEXT_BYTES_MAX or len(text.encode("utf-8", "surrogatepass")) > TEXT_BYTES_MAX:
        raise TreeError(f"is larger than {TEXT_BYTES_MAX} bytes; no configuration is")
    name = source.lower()
    if name.endswith(".json"):
        return parse_json(text)
    if name.endswith((".yaml", ".yml")) or text.lstrip()[:1] != "{":
        return parse_yaml(text)
    try:
        return parse_json(text)
    except TreeError as error:
        try:
            return parse_yaml(text)
        except TreeError:
            raise error from None


def _read_file(path: str) -> tuple[bytes, int]:
    """Read a configuration's file and its mode, without ever waiting for a pipe or reading on without end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        advice = "no such file; check the path, or leave `--config` out to start from the environment"
        raise _failed(path, advice) from None
    except PermissionError:
        raise _failed(path, "may not be read by this user; run `chmod u+r` on it, or start as its owner") from None
    except (OSError, ValueError) as error:
        raise _failed(path, f"cannot be read: {reason(error)}") from None
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise _failed(path, "is a folder; name the file in it")
        if not stat.S_ISREG(status.st_mode):
            raise _failed(path, "is not a regular file")
        if not status.st_mode & 0o444:
            # The administrator of the machine could read it all the same, but its owner has said that nobody shall.
            raise _failed(path, "may be read by nobody (mode 000); run `chmod 600` on it")
        data = b""
        while len(data) <= TEXT_BYTES_MAX and (chunk := os.read(descriptor, TEXT_BYTES_MAX + 1)):
            data += chunk
    except OSError as error:
        raise _failed(path, f"cannot be read: {reason(error)}") from None
    finally:
        os.close(descriptor)
    if not data.strip():
        raise _failed(path, "is empty; write at least `models:` with one entry")
    return data, stat.S_IMODE(status.st_mode)


def _failed(source: str, message: str, line: int = 0) -> ConfigError:
    return ConfigError(source, [ConfigProblem("", line, message)])
