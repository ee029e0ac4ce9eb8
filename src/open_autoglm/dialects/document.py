"""A request's body as strict JSON, and the limits of its shape.

A typed decoder reads only the fields that routing needs and skips the rest; what it skips is checked here, so that
no server behind us can read a body differently from us: UTF-8, numbers in range, depth, size, and no second
appearance of a field that we read. Good bodies pass on searches that run at memory speed; anything that looks odd is
walked exactly. RFC 8259; duplicate names: section 4.

One thing is not looked for: a number beyond a double's range (`1e400`) inside the messages, where no field that we read
is a number.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

import msgspec
from msgspec import Raw

from open_autoglm.errors import RequestError

DEPTH_MAX: Final = 64
NODES_MAX: Final = 100_000
MEMBERS_MAX: Final = 1_024
"""Fields of the outermost object: generous, since no API has a hundred, and it bounds the exact walk."""

_CUT_BYTES_MIN: Final = 128
"""A value below this is searched along with the rest of the body sooner than it is cut out."""
_NODE_BYTES_MIN: Final = 2
"""The shortest value and its comma: bodies below `NODES_MAX` times this cannot hold too many."""

_LARGE_BYTES: Final = 4_096
"""From here on, looking for each bracket in turn is quicker than counting them in a copy."""

_BEFORE_VALUE: Final = frozenset({b" ", b"\t", b"\r", b"\n", b":"})
_KEY: Final = re.compile(rb'[ \t\r\n]*("(?:[^"\\]|\\.)*")[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_AFTER: Final = re.compile(rb"[ \t\r\n]*([,}])")
_MISSING: Final = re.compile(r"missing required field `(.*?)`")
_PATH: Final = re.compile(r" - at `\$?\.?(.*)`$")
_ESCAPED_LETTER: Final = re.compile(rb"\\u00[2-7]")
"""A letter written as an escape: a name could hide behind it."""
_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_FLAT_OBJECTS_MAX: Final = 4_096
_FEW_QUOTES: Final = 128
"""Up to here, looking for each quote costs less than passing over the whole text several times."""

_any = msgspec.json.Decoder()
_decode_any = _any.decode
_members = msgspec.json.Decoder(dict[str, Raw])

View = TypeVar("View")


def malformed(error: Exception) -> RequestError:
    """The 400 for a body that a decoder refused. A wrong type names its field."""
    if isinstance(error, RecursionError):
        return RequestError("invalid_request", f"the body is nested deeper than {DEPTH_MAX} levels")
    if isinstance(error, UnicodeDecodeError):
        return RequestError("invalid_request", "the body is not valid UTF-8; send JSON in UTF-8")
    text = str(error)
    if isinstance(error, msgspec.ValidationError):
        match = _PATH.search(text)
        missing = _MISSING.search(text)
        said = text[: match.start()] if match is not None else text
        names = [part for part in (match[1] if match else "", missing[1] if missing else "") if part]
        param = ".".join(names).replace("[...]", "[]") or None
        return RequestError("invalid_request", f"the body does not fit: {said.replace('`', '')}", param=param)
    return RequestError("invalid_request", f"the body is not valid JSON ({text}); send one JSON object in UTF-8")


def decode(decoder: msgspec.json.Decoder[View], body: bytes | Raw) -> View:
    """Decode, or raise the 400 that says why not.

    Raises:
        RequestError: `invalid_request`.
    """
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error) from error


def members(body: bytes | Raw) -> dict[str, Raw]:
    """The fields of a JSON object, each as the client wrote it.

    Raises:
        RequestError: it is no object.
    """
    return decode(_members, body)


def check(body: bytes, bulk: bytes, bulk_key: bytes, keys: dict[str, bytes]) -> bool:
    """Check what a typed decoding of `body` skipped.

    Args:
        body: decoded without complaint.
        bulk: the value of its largest field, as in the body.
        bulk_key: that field's name with its quotes.
        keys: the fields that were read; each name also with its quotes.

    Returns:
        Whether the body has at most `DEPTH_MAX` objects and lists in all.

    Raises:
        RequestError: `invalid_request`.
    """
    few = check_shape(body)
    head, tail = outside(body, bulk, bulk_key)
    check_rest(body, head + b"0" + tail if tail else head, keys)
    return few


def check_shape(body: bytes) -> bool:
    """Check what concerns the whole of a body that was decoded: UTF-8, depth, size.

    Returns:
        Whether it has at most `DEPTH_MAX` objects and lists in all.

    Raises:
        RequestError: `invalid_request`.
    """
    if not body.isascii():
        _check_utf8(body)
    if len(body) < _LARGE_BYTES:
        # Replacing searches faster than counting counts.
        without = body.replace(b"{", b"", DEPTH_MAX + 1).replace(b"[", b"", DEPTH_MAX + 1)
        few = len(body) - len(without) <= DEPTH_MAX
    else:
        few = _are_few(body)
        if len(body) > NODES_MAX * _NODE_BYTES_MIN:
            check_nodes(body)
    if not few:
        check_depth(body)
    return few


def check_rest(body: bytes, rest: bytes, keys: dict[str, bytes]) -> bool:
    """Check `rest`, which is `body` with another value for its largest field: numbers, and no field twice.

    Returns:
        Whether `rest` alone told that; it then does so in every body.

    Raises:
        RequestError: `invalid_request`.
    """
    try:
        present: Iterable[str] = _decode_any(rest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error) from error
    for name in present:
        key = keys.get(name)
        if key is not None and rest.count(key) > 1:
            spans(body)
            return False
    if b"\\u00" in rest and hides_letters(rest):
        spans(body)
        return False
    return True


def outside(body: bytes, bulk: bytes, bulk_key: bytes) -> tuple[bytes, bytes]:
    """The body before and after its largest field's value; the whole body and nothing when it is small or odd.

    The cut is right if `bulk_key` appears once in what is returned: else a false value of the same bytes might have
    been cut.
    """
    if len(bulk) < _CUT_BYTES_MIN:
        return body, b""
    at = body.find(bulk_key)
    if at < 0:
        return body, b""
    at += len(bulk_key) + 1
    if not body.startswith(bulk, at):
        while body[at : at + 1] in _BEFORE_VALUE:
            at += 1
        if not body.startswith(bulk, at):
            return body, b""
    return body[:at], body[at + len(bulk) :]


def spans(body: bytes) -> dict[str, tuple[int, int]]:
    """Where the value of each field of the outermost object begins and ends.

    The decoder keeps the last value of a repeated name, so walking the body with the decoded values finds every
    repetition: either the name comes twice, or a value is not where it should be.

    Args:
        body: a valid JSON object.

    Raises:
        RequestError: a field appears twice, or there are more than `MEMBERS_MAX`.
    """
    fields = members(body)
    if len(fields) > MEMBERS_MAX:
        raise RequestError("invalid_request", f"the body has more than {MEMBERS_MAX} fields")
    found: dict[str, tuple[int, int]] = {}
    at = body.index(b"{") + 1
    while True:
        match = _KEY.match(body, at)
        if match is None:
            return found
        name = msgspec.json.decode(match[1], type=str)
        value = bytes(fields[name])
        begin = match.end()
        end = begin + len(value)
        after = _AFTER.match(body, end)
        if name in found or after is None or not body.startswith(value, begin):
            shown = name[:100]
            raise RequestError("invalid_request", f"the field {shown!r} appears twice; send it once", param=shown)
        found[name] = (begin, end)
        at = after.end()


def check_depth(body: bytes) -> None:
    """Raise unless every value of a valid document lies within `DEPTH_MAX` levels.

    Each round removes the innermost brackets; what is left after as many rounds as there may be levels is too deep.
    """
    if _is_flat(body):
        return
    brackets = skeleton(body, b"")
    for _ in range(DEPTH_MAX):
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return
    raise RequestError("invalid_request", f"the body is nested deeper than {DEPTH_MAX} levels")


def _is_flat(body: bytes) -> bool:
    """Whether a valid document is seen at a glance to be flat, as a long conversation is: many objects in one list.

    On the way to the deepest value there are at most all lists, one object in each of them, the outermost object, and
    objects that are the value of a name. An object after `},` is in a list and no value of a name, so the others are
    all that need to be counted. Brackets within strings only make the figure larger.
    """
    lists = _count(body, b"[", DEPTH_MAX)
    if 2 * lists > DEPTH_MAX:
        return False
    objects = _count(body, b"{", _FLAT_OBJECTS_MAX)
    if objects > _FLAT_OBJECTS_MAX:
        return False
    in_lists = body.count(b"},{") + body.count(b"}, {")
    return 2 * lists + objects - in_lists <= DEPTH_MAX


def check_nodes(body: bytes) -> None:
    """Raise when a valid document holds more than `NODES_MAX` values, counted by their commas and brackets."""
    nodes = _count(body, b",", NODES_MAX) + _count(body, b"[", NODES_MAX) + _count(body, b"{", NODES_MAX) + 1
    if nodes > NODES_MAX and len(skeleton(body, b",").replace(b"]", b"")) + 1 > NODES_MAX:
        raise RequestError("invalid_request", f"the body holds more than {NODES_MAX} values")


def skeleton(body: bytes, keep: bytes) -> bytes:
    """The brackets of a valid document, all written square, and the characters in `keep`; nothing of its strings."""
    if _count(body, b'"', _FEW_QUOTES) <= _FEW_QUOTES:
        plain = b"".join(_between_strings(body))
        return plain.translate(_SQUARE, _unless(keep))
    # Backslashes appear in strings only; without escaped backslashes and quotes, every quote is a border.
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(_SQUARE, _unless(keep + b'"'))
    # Two quotes side by side are an empty string, or a border between two strings: within or without, nothing moves.
    return b"".join(plain.replace(b'""', b"").split(b'"')[::2])


def _between_strings(body: bytes) -> Iterator[bytes]:
    """What lies outside the strings; quick when they are few and long."""
    at = 0
    while True:
        begin = body.find(b'"', at)
        if begin < 0:
            yield body[at:]
            return
        yield body[at:begin]
        end = body.find(b'"', begin + 1)
        while _is_escaped(body, end):
            end = body.find(b'"', end + 1)
        at = end + 1


def _is_escaped(body: bytes, at: int) -> bool:
    """Whether an odd number of backslashes stands before a quote."""
    first = at
    while body[first - 1 : first] == b"\\":
        first -= 1
    return (at - first) % 2 == 1


@functools.cache
def _unless(keep: bytes) -> bytes:
    """Every byte but brackets and `keep`: what a translation drops."""
    return bytes(set(range(256)) - set(b"[]{}" + keep))


def integers(body: bytes) -> Iterator[bytes]:
    """The numbers of a valid document, as they are written; for tests of what passes unchanged."""
    outside_strings = b" ".join(_between_strings(body))
    return (match[0] for match in re.finditer(rb"-?[0-9][0-9.eE+-]*", outside_strings))


def count_openers(text: bytes, limit: int) -> int:
    """Objects that begin in `text`, those in strings included, counted up to one more than `limit`."""
    return _count(text, b"{", limit)


def hides_letters(text: bytes) -> bool:
    """Whether a letter is written as an escape, behind which a field's name could hide."""
    return b"\\u00" in text and _ESCAPED_LETTER.search(text) is not None


def _are_few(body: bytes) -> bool:
    """Whether a large body has at most `DEPTH_MAX` brackets that open, those in strings included."""
    left = DEPTH_MAX
    for opener in (b"{", b"["):
        at = body.find(opener)
        while at >= 0:
            left -= 1
            if left < 0:
                return False
            at = body.find(opener, at + 1)
    return True


def _check_utf8(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise malformed(error) from error


def _count(text: bytes, what: bytes, limit: int) -> int:
    """How often a byte appears, counted up to `limit` + 1. Replacing searches faster than counting counts."""
    return len(text) - len(text.replace(what, b"", limit + 1))
