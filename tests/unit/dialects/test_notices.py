"""Events of virtual models in streams: types of their own, and nothing of them in whole answers."""

from __future__ import annotations

import json

import pytest
from msgspec import Raw

from open_autoglm.dialects import ChatFace, CompletionsFace, Event, Face, Finish, McpFace, TextDelta
from open_autoglm.dialects.canonical import Notice
from open_autoglm.dialects.relay import EventRelay
from tests.unit.dialects.wire import body, chat_request

NOTICE = Notice("asked", Raw(b'{"member":"a","at_ms":1}'))
FORMS: dict[str, tuple[Face, object]] = {
    "chat": (ChatFace(), chat_request(stream=True)),
    "completion": (CompletionsFace(), {"model": "m", "prompt": "hi", "stream": True}),
    "mcp": (McpFace(), {"opcode": 10, "payload": {"prompt": "hi"}}),
}


def relay(name: str) -> EventRelay:
    face, request = FORMS[name]
    return EventRelay(face.encoder(face.read(body(request)), "req-1", "m", 1))


@pytest.mark.parametrize("name", ["chat", "completion"])
def test_in_openais_streams_a_notice_is_an_event_with_a_type(name: str) -> None:
    made = relay(name)
    assert made.deliver([NOTICE]) == b'event: mcp.asked\ndata: {"member":"a","at_ms":1}\n\n'
    assert made.stage == 0, "it is no content"
    assert made.deliver([TextDelta("x"), Finish("stop")]).startswith(b"data: ")


def test_in_our_own_protocol_it_is_a_message() -> None:
    made = relay("mcp")
    payload = {"kind": "asked", "member": "a", "at_ms": 1}
    assert json.loads(made.deliver([NOTICE]).removeprefix(b"data: ")) == {"opcode": 23, "payload": payload}
    chunk = json.loads(made.deliver([TextDelta("x")]).removeprefix(b"data: "))
    assert chunk["payload"]["seq"] == 0, "chunks are counted without it"


@pytest.mark.parametrize("name", FORMS)
def test_a_whole_answer_holds_nothing_of_it(name: str) -> None:
    events: list[Event] = [NOTICE, TextDelta("x"), Finish("stop")]
    assert b"asked" not in relay(name).deliver_whole(events)
