"""Reads the bodies of the OpenAI routes, as far as routing needs them.

What surrounds the prompt is mostly the same from request to request. So a body whose bytes before and after the prompt
are those of one that was read before is not decoded again: its prompt must be one JSON value, all else is known.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET, Raw

from open_autoglm.dialects.canonical import InferRequest, Kind
from open_autoglm.dialects.document import check_rest, check_shape, malformed
from open_autoglm.dialects.openai_view import (
    CHOICES_MAX,
    FORBIDDEN,
    MODEL_CHARS_MAX,
    OpenAIView,
    check_model,
    check_range,
    steering,
)
from open_autoglm.dialects.parameters import read_request

_REST_BYTES_MAX: Final = 512
_KNOWN_MAX: Final = 1024
"""Surroundings that are remembered, each with the body's beginning; longer ones are not."""
_BRACKETS: Final = (b"[]", b'""')
"""How a prompt begins and ends. One with white space around it is left to the decoder."""

_decode_raw = msgspec.json.Decoder(Raw).decode


class _Surroundings:
    """What a body says besides its prompt.

    Args:
        after: the bytes after its prompt.
        view: what was read of it; never handed out, only copied.
    """

    __slots__ = ("after", "after_bytes", "view")

    def __init__(self, after: bytes, view: OpenAIView) -> None:
        self.after = after
        self.after_bytes = len(after)
        self.view = view


def _copy(view: OpenAIView) -> OpenAIView:
    # Structs have it, though their stubs do not say so; the module `copy` only finds that out each time.
    return view.__copy__()  # type: ignore[attr-defined,no-any-return]


class OpenAIReader:
    """Reads the bodies of one OpenAI route.

    Args:
        view: what is read.
        kind: what is asked for.
    """

    __slots__ = ("_bulk_field", "_bulk_name", "_checked", "_decode", "_keys", "_kind", "_known")

    def __init__(self, view: type[OpenAIView], kind: Kind) -> None:
        self._decode = msgspec.json.Decoder(view).decode
        self._kind: Kind = kind
        self._bulk_name = view.bulk_key + b":"
        self._bulk_field = view.bulk_key.decode().strip('"')
        self._keys = {name: f'"{name}"'.encode() for name in view.__struct_fields__ if name not in FORBIDDEN}
        # By the bytes around the prompt; and the latest one by those before it.
        self._checked: dict[bytes, _Surroundings] = {}
        self._known: dict[bytes, _Surroundings] = {}

    def read(self, body: bytes) -> OpenAIView:
        """See `Face.read`."""
        at = body.find(self._bulk_name) + len(self._bulk_name)
        if body[at : at + 1] == b" ":
            at += 1
        known = self._known.get(body[:at])
        if known is None or not body.endswith(known.after):
            return self._read_anew(body, at)
        bulk = body[at : len(body) - known.after_bytes]
        if bulk[:1] + bulk[-1:] not in _BRACKETS:
            return self._read_anew(body, at)
        try:
            raw = _decode_raw(bulk)
        except (msgspec.MsgspecError, RecursionError):
            return self._read_anew(body, at)
        view = _copy(known.view)
        setattr(view, self._bulk_field, raw)
        view.check_limits(bulk, check_shape(body))
        return view

    def _read_anew(self, body: bytes, at: int) -> OpenAIView:
        """Decode a body; its prompt is expected at `at`."""
        try:
            view = self._decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise malformed(error) from error
        few = check_shape(body)
        bulk = view.bulk
        if not body.startswith(bulk, at):
            self._check_rest(body, body, view)
        else:
            before, after = body[:at], body[at + len(bulk) :]
            known = self._checked.get(before + after)
            if known is None:
                known = _Surroundings(after, _copy(view))
                if self._check_rest(body, before + b"0" + after, view) and len(before + after) <= _REST_BYTES_MAX:
                    self._remember(before, known)
            else:
                self._known[before] = known
        view.check_limits(bulk, few)
        return view

    def _check_rest(self, body: bytes, rest: bytes, view: OpenAIView) -> bool:
        """Check everything but the prompt, in whose place there is another value in `rest` if it could be cut out.

        Returns:
            Whether `rest` alone told that; it then does so in every body.
        """
        if view.api_base is not UNSET or view.base_url is not UNSET or view.api_key is not UNSET:
            raise steering(next(name for name in FORBIDDEN if getattr(view, name) is not UNSET))
        alone = check_rest(body, rest, self._keys)
        if not 0 < len(view.model) <= MODEL_CHARS_MAX:
            check_model(view.model)
        if view.n is not None:
            check_range("n", view.n, CHOICES_MAX)
        return alone

    def _remember(self, before: bytes, known: _Surroundings) -> None:
        if len(self._checked) >= _KNOWN_MAX:
            self._checked.clear()
            self._known.clear()
        self._checked[before + known.after] = self._known[before] = known

    def infer(self, body: bytes) -> InferRequest:
        """See `Face.infer`."""
        return read_request(body, self._kind)
