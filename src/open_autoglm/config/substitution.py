"""`${NAME}` and `file:PATH` inside values: where they are allowed, and what they stand for.

Invariant: both are resolved in files and in `MCP__` variables only, once, never in a text that came over the network.
No message repeats what a variable or a file holds.
"""

import os
import re
import stat
from collections.abc import Mapping

from open_autoglm.config.tree import Scalar
from open_autoglm.secret import Secret

SECRET_BYTES_MAX = 64 * 2**10
"""Of a file that holds a secret, and of one value after substitution; keys and tokens are far below it."""

EXPANDED_BYTES_MAX = 2**24
"""Of all values together after substitution, so that many references to one long variable stay harmless."""

_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FILE_PREFIX = "file:"


class Refused(Exception):
    """A value that cannot be taken; the message says why and what to write, without the value if it is secret."""


class Substitution:
    """Resolves references.

    Args:
        environ: the environment variables.
        folder: folder from which relative paths count; empty for the working directory.
        trusted: whether the text is a file of the operator's, not something that came over the network.

    Attributes:
        inline: whether the text itself holds a secret.
    """

    __slots__ = ("_environ", "_expanded", "_folder", "inline", "trusted")

    def __init__(self, environ: Mapping[str, str], folder: str, trusted: bool) -> None:
        self._environ = environ
        self._folder = folder
        self.trusted = trusted
        self._expanded = 0
        self.inline = False

    def expand(self, node: Scalar) -> tuple[str, bool]:
        """Resolve `${NAME}` in a value; `$${` stands for a literal `${`.

        Returns:
            The text, and whether anything was put in, so that a quoted `"${PORT}"` may be a number.

        Raises:
            Refused: not allowed here, not a name, not set, or too long.
        """
        if "${" not in node.text:
            return node.text, False
        if not (self.trusted or node.origin):
            raise Refused("`${NAME}` is resolved in files only; send the value itself")
        text = _REFERENCE.sub(self._value, node.text)
        self._expanded += len(text)
        if len(text) > SECRET_BYTES_MAX or self._expanded > EXPANDED_BYTES_MAX:
            raise Refused("`${NAME}` makes this too long")
        return text, True

    def secret(self, node: Scalar) -> Secret:
        """Read a secret: the value itself, `${NAME}`, or `file:PATH`.

        Raises:
            Refused: not allowed here, empty, not printable, or a file that others may read.
        """
        text, substituted = self.expand(node)
        origin = "env" if substituted else "value"
        if text.startswith(_FILE_PREFIX):
            if not (self.trusted or node.origin):
                raise Refused("`file:PATH` is resolved in files only; send the value itself")
            text, origin = self._read(text.removeprefix(_FILE_PREFIX)), "file"
        if not text:
            raise Refused("is empty; leave it out, or write the value, ${NAME} or file:PATH")
        if not (text.isascii() and text.isprintable()) or text != text.strip():
            raise Refused("must be printable ASCII without spaces around it, since it travels in an HTTP header")
        self.inline = self.inline or (origin == "value" and not node.origin)
        return Secret(text, origin)

    def readable(self, written: str) -> str:
        """Make the path of a file that is read absolute; a relative one counts from the configuration's folder.

        Raises:
            Refused: there is no such file, or it cannot be read.
        """
        path = self._path(written)
        os.close(_opened(path))
        return path

    def _path(self, written: str) -> str:
        return os.path.abspath(os.path.join(self._folder, os.path.expanduser(written)))

    def _value(self, match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name = match[1]
        if name is None or _NAME.fullmatch(name) is None:
            raise Refused("`${` begins the name of an environment variable, as ${NAME}; for a literal one write `$${`")
        value = self._environ.get(name)
        if value is None:
            raise Refused(f"environment variable {name} is not set; set it, or write the value")
        return value

    def _read(self, written: str) -> str:
        if not written.strip():
            raise Refused("`file:` needs a path after it")
        path = self._path(written)
        descriptor = _opened(path)
        try:
            status = os.fstat(descriptor)
            if status.st_mode & 0o077:
                mode = stat.S_IMODE(status.st_mode)
                raise Refused(f"others can read or write {path!r} (mode {mode:04o}); run `chmod 600` on it")
            if status.st_size > SECRET_BYTES_MAX:
                raise Refused(f"{path!r} is larger than {SECRET_BYTES_MAX} bytes; a secret is one line")
            content = os.read(descriptor, SECRET_BYTES_MAX)
        finally:
            os.close(descriptor)
        return content.decode("utf-8", "replace").strip()


def _opened(path: str) -> int:
    """Open a regular file for reading, as a descriptor."""
    try:
        # Non-blocking: a pipe in place of the file must not hold up the server.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise Refused(f"file {path!r} cannot be read: {reason(error)}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Refused(f"{path!r} is not a file")
    return descriptor


def reason(error: OSError | ValueError) -> str:
    """Say in words why a file could not be opened."""
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else "the path holds a NUL"
