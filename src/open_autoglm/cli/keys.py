"""Keys that the command line sends: from the environment or a file, never from the arguments, which others can see."""

from __future__ import annotations

from open_autoglm.cli.failure import WRONG_USAGE, CommandFailed
from open_autoglm.cli.terminal import Terminal
from open_autoglm.secret import Secret


def key_from(terminal: Terminal, variable: str, path: str | None) -> Secret | None:
    """Return the key of a file, else of an environment variable, else None.

    Args:
        terminal: holds the environment.
        variable: name of the variable.
        path: file with one key; only its owner may be able to read it.

    Raises:
        CommandFailed: the file cannot be read, others can read it, or it holds no key.
    """
    if path is not None:
        return read_key(path)
    value = terminal.environ.get(variable, "").strip()
    if not value:
        return None
    if not (value.isascii() and value.isprintable()):
        raise CommandFailed(f"the environment variable {variable} holds no key: keys are printable ASCII")
    return Secret(value, f"env {variable}")


def read_key(path: str) -> Secret:
    """Read a key's file, by the rules that the configuration has for `file:PATH`.

    Raises:
        CommandFailed: see `key_from`.
    """
    from open_autoglm.config.substitution import Refused, Substitution  # most commands need no file
    from open_autoglm.config.tree import Scalar

    try:
        return Substitution({}, "", trusted=True).secret(Scalar(f"file:{path}", 0, False))
    except Refused as error:
        raise CommandFailed(f"key file {path!r}: {error}") from error


def key_path(written: str) -> str:
    """Return PATH of `file:PATH`.

    Raises:
        CommandFailed: it is something else, perhaps a key, which must not be typed where others can see it.
    """
    path = written.removeprefix("file:")
    if path == written or not path:
        raise CommandFailed(
            "--admin-key takes file:PATH, because others can see what is typed; or set MCP_ADMIN_KEY", WRONG_USAGE
        )
    return path
