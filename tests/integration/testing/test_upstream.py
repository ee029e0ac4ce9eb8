import asyncio
import json
from collections.abc import Callable

import pytest

from open_autoglm.testing.reply import FOREVER, Asked, Reply, Steps
from open_autoglm.testing.speech import TOKENS, read_question, rest_of, text_of, tokens_of
from open_autoglm.testing.upstream import ScriptedUpstream


def ask(text: str = "why?", said: str | None = None, **fields: object) -> dict[str, object]:
    messages = [{"role": "user", "content": text}]
    if said is not None:
        messages.append({"role": "assistant", "content": said})
    return {"model": "chat", "messages": messages, **fields}


async def post(upstream: ScriptedUpstream, body: object, path: str = "/v1/chat/completions") -> tuple[int, bytes]:
    """Post and return the status and all that came until the peer closed or the last chunk."""
    reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
    data = json.dumps(body).encode()
    writer.write(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = [line for line in head.split("\r\n") if line.startswith("content-length")]
    if length:
        content = await reader.readexactly(int(length[0].split(":")[1]))
    else:
        content = b""
        while size := int(await reader.readline(), 16):
            content += await reader.readexactly(size)
            await reader.readexactly(2)
    writer.close()
    return int(head.split(" ")[1]), content


def spoken(content: bytes) -> str:
    events = [line[6:] for line in content.decode().split("\n\n") if line and line != "data: [DONE]"]
    pieces = [choice["delta"] for event in events for choice in json.loads(event)["choices"]]
    return "".join(piece.get("content", "") for piece in pieces)


async def test_a_unary_answer_follows_from_the_question() -> None:
    upstream = ScriptedUpstream(prompt_tokens=7)
    await upstream.start()
    status, content = await post(upstream, ask())
    upstream.stop()
    answer = json.loads(content)
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == text_of("why?")
    assert answer["usage"] == {"prompt_tokens": 7, "completion_tokens": TOKENS, "total_tokens": 7 + TOKENS}
    assert text_of("why?") != text_of("how?")
    assert not text_of("why?").isascii()


async def test_a_stream_says_the_same_with_usage_and_done() -> None:
    upstream = ScriptedUpstream()
    await upstream.start()
    _, content = await post(upstream, ask(stream=True, stream_options={"include_usage": True}))
    upstream.stop()
    assert spoken(content) == text_of("why?")
    assert content.endswith(b"data: [DONE]\n\n")
    assert b'"completion_tokens": 60' in content
    assert upstream.asked[0].sent_tokens == TOKENS
    assert upstream.asked[0].done_s > 0.0


@pytest.mark.parametrize("chars", [1, 37, 120])
async def test_it_goes_on_exactly_where_an_answer_broke_off(chars: int) -> None:
    upstream = ScriptedUpstream()
    await upstream.start()
    said = text_of("why?")[:chars]
    _, content = await post(upstream, ask(said=said, stream=True))
    upstream.stop()
    assert said + spoken(content) == text_of("why?")


async def test_a_bare_prompt_is_continued_after_its_last_line_break() -> None:
    upstream = ScriptedUpstream()
    await upstream.start()
    said = text_of("why?\n")[:50]
    _, content = await post(upstream, {"prompt": "why?\n" + said}, "/v1/completions")
    upstream.stop()
    assert said + json.loads(content)["choices"][0]["text"] == text_of("why?\n")


async def test_max_tokens_are_kept() -> None:
    upstream = ScriptedUpstream()
    await upstream.start()
    _, content = await post(upstream, ask(max_tokens=3))
    upstream.stop()
    choice = json.loads(content)["choices"][0]
    assert choice["message"]["content"] == "".join(tokens_of("why?")[:3])
    assert choice["finish_reason"] == "length"


async def test_the_plain_route_answers_a_text() -> None:
    upstream = ScriptedUpstream()
    await upstream.start()
    _, content = await post(upstream, {"prompt": "why?"}, "/generate")
    upstream.stop()
    assert json.loads(content) == {"text": text_of("why?")}


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for happens in callbacks of the loop
        await asyncio.sleep(0.001)


def silent(reply: Reply) -> Steps:
    yield FOREVER


async def test_when_the_peer_leaves_the_behaviour_ends() -> None:
    upstream = ScriptedUpstream(lambda asked: silent)
    await upstream.start()
    _, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
    await until(lambda: len(upstream.asked) == 1)
    assert upstream.asked[0].running
    writer.transport.abort()
    await until(lambda: not upstream.asked[0].running)
    upstream.stop()
    assert upstream.asked[0].left_s >= upstream.asked[0].arrived_s > 0.0
    assert upstream.asked[0].done_s == 0.0


async def test_while_it_is_down_connections_are_reset() -> None:
    upstream = ScriptedUpstream()
    await upstream.start()
    upstream.down = True
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await post(upstream, ask())
    upstream.down = False
    status, _ = await post(upstream, ask())
    upstream.stop()
    assert (status, upstream.turned_away, upstream.connections) == (200, 1, 2)


async def test_the_list_of_models_is_no_request() -> None:
    upstream = ScriptedUpstream(models=("one", "two"))
    await upstream.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
    writer.write(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.read(4096)
    writer.close()
    upstream.stop()
    assert b" 200 " in head
    assert [entry["id"] for entry in json.loads(body)["data"]] == ["one", "two"]
    assert not upstream.asked


def test_a_question_is_read_from_parts_too() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert read_question({"messages": [{"role": "user", "content": parts}]}) == ("ab", "")
    assert read_question({}) == ("", "")


def test_what_is_no_beginning_is_answered_from_the_start() -> None:
    assert rest_of("why?", "nothing of the kind") == tokens_of("why?")


def test_the_attempt_is_read_from_its_header() -> None:
    assert Asked("u", "/v1/chat/completions", {"x-mcp-attempt": "2"}, {}, 0.0).attempt == 2
    assert Asked("u", "/v1/chat/completions", {}, {}, 0.0).attempt == -1
