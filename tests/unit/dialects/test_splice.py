"""Two fields change, and not one other byte."""

import json
from typing import Any

import pytest

from open_autoglm.dialects import ChatFace, CompletionsFace, EmbeddingsFace, splice_request
from tests.unit.dialects.wire import body, chat_request

CHAT = ChatFace()
LONG = "lorem ipsum " * 1_000


def spliced(data: bytes, model: str = "glm-4", *, usage: bool = False) -> bytes:
    return splice_request(data, CHAT.read(data), model, usage)


def test_nothing_to_change_returns_the_same_object() -> None:
    data = body(chat_request(stream=True, stream_options={"include_usage": True}))
    assert spliced(data, "chat", usage=True) is data
    assert spliced(body(chat_request()), "chat", usage=True) == body(chat_request())


@pytest.mark.parametrize("padding", ["", LONG], ids=["small", "large"])
@pytest.mark.parametrize("model_first", [True, False])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n ", " :\t")])
def test_only_the_name_changes(padding: str, model_first: bool, separators: tuple[str, str]) -> None:
    messages = [{"role": "user", "content": 'say "model" or \\"model\\" ' + padding}]
    fields: dict[str, Any] = {"model": "chat", "messages": messages}
    if not model_first:
        fields = dict(reversed(fields.items()))
    fields |= {"seed": 123456789012345678901234567890, "custom": {"x": 1.50}}
    data = json.dumps(fields, separators=separators).encode()
    assert data.count(b'"chat"') == 1
    assert spliced(data) == data.replace(b'"chat"', b'"glm-4"')


@pytest.mark.parametrize("padding", ["", LONG], ids=["small", "large"])
@pytest.mark.parametrize(
    "odd",
    [
        '{"metadata":{"model":"chat"},"model":"chat","messages":MESSAGES}',
        '{"messages":MESSAGES,"metadata":{"model":"chat"},"model":"chat"}',
        '{"metadata":{"model":"chat"},"mod\\u0065l":"chat","messages":MESSAGES}',
        '{"x":"a \\"model","model":"chat","messages":MESSAGES}',
        '{"y \\"model":"chat","model":"chat","messages":MESSAGES}',
        '{"metadata":{"messages":MESSAGES},"messages":MESSAGES,"model":"ch\\u0061t"}',
        '{"x":["model","chat"],"model" : "chat" , "messages":MESSAGES } ',
    ],
)
def test_the_right_name_changes_among_others(odd: str, padding: str) -> None:
    messages = json.dumps([{"role": "user", "content": "hi" + padding}], separators=(",", ":"))
    data = odd.replace("MESSAGES", messages).encode()
    changed = spliced(data)
    before, after = json.loads(data), json.loads(changed)
    assert after == {**before, "model": "glm-4"}
    assert len(changed) in (len(data) + 1, len(data) + 1 - 5)  # `chat`, or `ch\u0061t`, became `glm-4`


def test_names_are_written_as_json() -> None:
    assert json.loads(spliced(body(chat_request()), 'a"b\\c中'))["model"] == 'a"b\\c中'


@pytest.mark.parametrize("padding", ["", LONG], ids=["small", "large"])
@pytest.mark.parametrize("end", [b"}", b" }\r\n"])
def test_usage_is_asked_for_at_the_end(padding: str, end: bytes) -> None:
    request = chat_request(messages=[{"role": "user", "content": "hi" + padding}], stream=True)
    data = body(request)[:-1] + end
    changed = spliced(data, "chat", usage=True)
    assert changed == data.rstrip()[:-1] + b',"stream_options":{"include_usage":true}' + end.lstrip()


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": None, "other": [1]}])
def test_usage_is_put_into_options_that_are_there(options: Any) -> None:
    data = body(chat_request(stream=True, stream_options=options, seed=2**70))
    after = json.loads(spliced(data, usage=True))
    expected = {**(options or {}), "include_usage": True}
    assert after == chat_request(model="glm-4", stream=True, stream_options=expected, seed=2**70)


def test_usage_is_not_asked_for_without_a_stream() -> None:
    data = body(chat_request(stream=False))
    assert spliced(data, "chat", usage=True) is data


def test_names_that_look_like_options_elsewhere() -> None:
    data = body(chat_request(stream=True, metadata={"stream_options": {}}))
    after = json.loads(spliced(data, usage=True))
    assert after["stream_options"] == {"include_usage": True}
    assert after["metadata"] == {"stream_options": {}}


def test_the_other_faces_splice_alike() -> None:
    for face, field in ((CompletionsFace(), "prompt"), (EmbeddingsFace(), "input")):
        data = body({field: LONG, "model": "chat", "user": "model"})
        assert splice_request(data, face.read(data), "x", False) == data.replace(b'"chat"', b'"x"')
