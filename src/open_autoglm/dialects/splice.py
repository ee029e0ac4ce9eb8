"""Changing two fields of a request without touching the rest of its bytes.

Numbers of any size, unknown fields and the order of fields stay as the client wrote them. Where a value lies is never
guessed: either its name appears once outside the prompt, or the body is walked exactly.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec import Raw

from open_autoglm.dialects.document import hides_letters, members, outside, spans
from open_autoglm.dialects.face import RequestView

_VALUE: Final = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*("(?:[^"\\]|\\.)*")')
_SPACE: Final = b" \t\r\n"
_ASK_USAGE: Final = b',"stream_options":{"include_usage":true}'

_encode = msgspec.json.encode


def splice_request(body: bytes, view: RequestView, upstream_model: str, want_usage: bool) -> bytes:
    """Return the body for an upstream of the same dialect.

    Args:
        body: as the client sent it.
        view: what the face read of it.
        upstream_model: the model's name there.
        want_usage: ask for the usage of a stream, when the client did not.

    Raises:
        RequestError: `invalid_request`: the body had to be walked, and some field appears twice.
    """
    rename = upstream_model != view.model
    ask = want_usage and view.stream is True and not view.include_usage
    if not rename and not ask:
        return body
    edits: list[tuple[int, int, bytes]] = []
    exact: dict[str, tuple[int, int]] | None = None
    if rename:
        span = _model_span(body, view)
        if span is None:
            exact = spans(body)
            span = exact["model"]
        edits.append((*span, _encode(upstream_model)))
    if ask:
        edits.append(_usage_edit(body, view, exact))
    edits.sort()
    pieces = []
    at = 0
    for begin, end, value in edits:
        pieces += [body[at:begin], value]
        at = end
    pieces.append(body[at:])
    return b"".join(pieces)


def _model_span(body: bytes, view: RequestView) -> tuple[int, int] | None:
    """Where the model's name lies, quotes included; None when the quick way cannot tell."""
    head, tail = outside(body, view.bulk, view.bulk_key)
    if head.count(b'"model"') + tail.count(b'"model"') != 1 or hides_letters(head) or hides_letters(tail):
        return None
    at = head.find(b'"model"')
    if at < 0:
        at = len(body) - len(tail) + tail.find(b'"model"')
    match = _VALUE.match(body, at)
    # A key within a string ends in an escaped quote, and one in a deeper object holds another value, or none.
    if match is None or body[at - 1 : at] == b"\\" or msgspec.json.decode(match[1]) != view.model:
        return None
    return match.span(1)


def _usage_edit(body: bytes, view: RequestView, exact: dict[str, tuple[int, int]] | None) -> tuple[int, int, bytes]:
    """Put `include_usage` into `stream_options`, or add that field at the end."""
    head, tail = outside(body, view.bulk, view.bulk_key)
    if b'"stream_options"' in head or b'"stream_options"' in tail or hides_letters(head) or hides_letters(tail):
        exact = exact if exact is not None else spans(body)
        if "stream_options" in exact:
            begin, end = exact["stream_options"]
            options: dict[str, Raw] = {} if body[begin:end] == b"null" else members(body[begin:end])
            options["include_usage"] = Raw(b"true")
            return begin, end, _encode(options)
    end = len(body.rstrip(_SPACE)) - 1
    return end, end, _ASK_USAGE
