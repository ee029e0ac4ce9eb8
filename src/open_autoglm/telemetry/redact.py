"""Makes text that came from elsewhere fit to be written down: no secrets, no control characters, no floods.

Invariant: what `clean` returns holds no key in one of the known forms, no character that moves a terminal's
cursor or starts a new line, no lone surrogate, and at most `FIELD_BYTES_MAX` bytes of UTF-8. A `Secret` hides
itself by its type; this is the second net, for secrets that arrived inside somebody's text.
"""

import re

FIELD_BYTES_MAX = 2048
"""Longest text field of a log line, bytes of UTF-8: one request must not fill a screen, or a disk."""

_SCANNED_CHARS_MAX = 4 * FIELD_BYTES_MAX
"""How much of a text is looked at. Redaction shortens, so more than the field's cap is scanned before the cut."""

MARKERS = ("sk-", "mcp_", "earer", "EARER", "eyJ", "://")
"""A text without any of these holds no secret of a known form: the cheap test before the expression."""

_SECRETS = re.compile(
    r"""
      (?: (?<![0-9A-Za-z]) | (?<=\\[bfnrt]) | (?<=\\u[0-9a-f]{4}) )       # the end of no word, but of an escape in JSON
      (?P<sk>sk-) [0-9A-Za-z_\-]{6,}                                       # vendor keys, but not the end of "task-"
    | (?P<mcp>mcp_) (?: [0-9A-Za-z]{16,} | (?=[A-Za-z]*[0-9]) [0-9A-Za-z]{6,} )   # our keys, but not mcp_requests_total
    | (?P<bearer>(?i:bearer)(?:\s|\\[nrt])+) [^\s"'\\,;]+
    | (?P<jwt>eyJ) [0-9A-Za-z_\-]{6,} (?: \.[0-9A-Za-z_\-]* ){0,2}
    | (?P<url>://) [^/\s@"'\\]+ (?=@)                                       # user and password inside a URL
    """,
    re.VERBOSE,
)

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""C0 and C1 controls, line and paragraph separators, marks that reorder text, lone surrogates."""

CONTROLS_IN_LINES = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
"""The same without tab and line feed, for text that is shown line by line."""


def redact(text: str) -> str:
    """Replace everything that looks like a key, token or password by its first letters and `***`.

    The result is never longer than `text` plus three characters per secret. JSON text stays JSON.
    """
    if not any(marker in text for marker in MARKERS):
        return text
    return _SECRETS.sub(_stars, text)


def _stars(match: re.Match[str]) -> str:
    prefix = match.group(match.lastgroup) if match.lastgroup else ""
    return f"{prefix}***"


def escape_controls(text: str, *, keep_lines: bool = False) -> str:
    r"""Replace control characters by their escapes, as `\x1b` or `\u202e`; printable text stays as it is.

    Args:
        text: any text.
        keep_lines: leave tab and line feed in, for text whose reader splits it into lines.
    """
    if text.isascii() and text.isprintable():
        return text
    return (CONTROLS_IN_LINES if keep_lines else _CONTROLS).sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def cap(text: str, bytes_max: int = FIELD_BYTES_MAX) -> str:
    """Cut `text` to `bytes_max` bytes of UTF-8, with an ellipsis as the last character where something was cut."""
    if len(text) * 4 <= bytes_max:
        return text
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= bytes_max:
        return text
    return encoded[: bytes_max - 3].decode("utf-8", "ignore") + "…"


def clean(text: str, *, keep_lines: bool = False) -> str:
    """Redact, escape and cap one text field; see the module's invariant.

    Args:
        text: any text, of any length.
        keep_lines: leave tab and line feed in, for encoders that escape them themselves.
    """
    if len(text) <= 512 and text.isascii() and text.isprintable() and not any(m in text for m in MARKERS):
        return text
    return cap(escape_controls(redact(text[:_SCANNED_CHARS_MAX]), keep_lines=keep_lines))
