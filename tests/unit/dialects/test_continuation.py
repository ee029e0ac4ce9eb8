"""The text that was delivered, and the requests that go on with it."""

import json
from typing import Any

import pytest

from open_autoglm.dialects import ChatFace, CompletionsFace, Face, GenerateDialect, McpFace, OpenAIDialect
from open_autoglm.dialects.canonical import Finish, ReasoningDelta, TextDelta, Usage
from open_autoglm.dialects.chat import ChatEncoder
from open_autoglm.dialects.continuation import TEXT_CHARS_MAX, Continuation, Delivered, continued_request
from open_autoglm.errors import RequestError
from tests.unit.dialects.wire import DONE, body, chat_request, chunk, event, stream

TEXT = "Hello wörld 🙂"


def delivered_text(*texts: str) -> Delivered:
    delivered = Delivered()
    for text in texts:
        delivered.take(event(chunk({"content": text})))
    return delivered


def broken(request: dict[str, Any], *texts: str, face: Face | None = None, tokens: int = -1) -> Delivered | None:
    """What was delivered of an answer that broke; None when it cannot be continued."""
    face = face or ChatFace()
    data = body(request)
    view = face.read(data)
    view.stream = True
    delivered = Delivered.of(view)
    if delivered is None:
        return None
    for text in texts or (TEXT,):
        delivered.take(event(chunk({"content": text})))
    return delivered if delivered.broke(face.infer(data, view), "chat#1", -1, tokens) else None


def continued(delivered: Delivered | None, continuation: Continuation = "prefill") -> dict[str, Any]:
    """The continuing request for a server of the openai dialect."""
    assert delivered is not None
    request, _ = continued_request(delivered, "openai", continuation)
    return dict(json.loads(OpenAIDialect().encode(request, "up")))


def test_what_was_passed_on_is_read_again() -> None:
    delivered = Delivered()
    delivered.take(event(chunk({"role": "assistant", "content": ""})) + event(chunk({"content": "Hel"})))
    delivered.take(event(chunk({"content": "lo\n\ndata: {"})))
    delivered.take(event(json.dumps(chunk({"content": "🙂"})).encode()))
    assert delivered.broke(ChatFace().infer(body(chat_request()), ChatFace().read(body(chat_request()))), "a", 7, -1)
    assert delivered.text == "Hello\n\ndata: {🙂"
    assert (delivered.chars, delivered.tokens, delivered.prompt_tokens) == (15, 3, 7)
    assert json.loads(delivered.event)["id"] == "chatcmpl-1"


def test_many_events_are_read_in_between() -> None:
    delivered = delivered_text(*[f"word {number} " for number in range(2_000)])
    assert delivered.broke(ChatFace().infer(body(chat_request()), ChatFace().read(body(chat_request()))), "a", -1, -1)
    assert delivered.text == "".join(f"word {number} " for number in range(2_000))


def test_too_long_a_text_is_not_kept() -> None:
    delivered = delivered_text(*["x" * 2**16] * (TEXT_CHARS_MAX // 2**16))
    delivered.take(event(chunk({"content": "y"})))
    request = ChatFace().infer(body(chat_request()), ChatFace().read(body(chat_request())))
    assert not delivered.broke(request, "a", -1, -1)
    assert delivered.text == ""


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"refusal": "no"},
        {"tool_calls": [{"index": 0}]},
        {"function_call": {"name": "f"}},
        {"audio": {"id": "x"}},
    ],
)
def test_an_answer_with_more_than_text_is_not_continued(delta: dict[str, Any]) -> None:
    request = ChatFace().infer(body(chat_request()), ChatFace().read(body(chat_request())))
    for payloads in ((delta, {"content": "a"}), ({"content": "a"}, delta)):
        delivered = Delivered()
        for one in payloads:
            delivered.take(event(chunk(one)))
        assert not delivered.broke(request, "a", -1, -1)


def test_an_answer_that_has_ended_or_not_begun_is_not_continued() -> None:
    request = ChatFace().infer(body(chat_request()), ChatFace().read(body(chat_request())))
    delivered = Delivered()
    assert not delivered.broke(request, "a", -1, -1)
    delivered.take(stream("a", done=False))
    assert not delivered.broke(request, "a", -1, -1)


def test_events_that_were_translated_are_noted_with_their_encoder() -> None:
    view = ChatFace().read(body(chat_request()))
    encoder = ChatEncoder(view, "1", "m", 1)
    request = ChatFace().infer(body(chat_request()), view)
    for extra, expected in (((), True), ((ReasoningDelta("x"),), False), ((Finish("stop"),), False)):
        delivered = Delivered()
        delivered.take_events([TextDelta("a"), TextDelta("b"), Usage(1, 2), *extra], encoder)
        assert delivered.broke(request, "a", -1, 5) is expected
        assert delivered.encoder is encoder
        assert (delivered.text, delivered.tokens) == (("ab", 5) if expected else ("", 0))


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 2},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"functions": [{"name": "f"}]},
        {"tool_choice": "required"},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "grammar", "value": "x"}},
        {"logprobs": True},
        {"top_logprobs": 2},
        {"guided_json": {}},
        {"structured_outputs": {"regex": "a+"}},
        {"modalities": ["text", "audio"]},
        {"min_tokens": 5},
    ],
)
def test_requests_that_are_not_continued(fields: dict[str, Any]) -> None:
    assert broken(chat_request(**fields)) is None


def test_neutral_fields_are_no_obstacle() -> None:
    neutral = {"n": 1, "tools": [], "tool_choice": "auto", "logprobs": False, "response_format": {"type": "text"}}
    assert broken(chat_request(**neutral, seed=7, stop=["x"], temperature=0.2, top_k=5)) is not None


def test_a_conversation_gets_the_text_as_its_last_message() -> None:
    asked = chat_request(seed=2**60, stop=["END", "\n\n"], temperature=0.7, top_k=3, user="u", odd={"big": 2**70})
    sent = continued(broken(asked))
    assert sent["messages"] == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": TEXT}]
    assert {name: sent[name] for name in asked if name not in ("model", "messages")} == {
        name: value for name, value in asked.items() if name not in ("model", "messages")
    }
    assert sent["model"] == "up"
    assert "continue_final_message" not in sent


def test_vllm_is_told_to_go_on_with_the_message() -> None:
    sent = continued(broken(chat_request()), "vllm")
    assert sent["messages"][-1] == {"role": "assistant", "content": TEXT}
    assert (sent["add_generation_prompt"], sent["continue_final_message"]) == (False, True)


ASSISTANT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Well, "}]


def test_a_prefill_of_the_clients_own_is_gone_on_with() -> None:
    joined = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": f"Well, {TEXT}"}]
    assert continued(broken(chat_request(messages=ASSISTANT)))["messages"] == joined
    flags = {"add_generation_prompt": False, "continue_final_message": True}
    assert continued(broken(chat_request(messages=ASSISTANT, **flags)), "vllm")["messages"] == joined
    # Without these flags vLLM answers a conversation of two messages with a third.
    sent = continued(broken(chat_request(messages=ASSISTANT)), "vllm")
    assert sent["messages"] == [*ASSISTANT, {"role": "assistant", "content": TEXT}]


def test_a_last_message_of_parts_is_left_alone() -> None:
    messages = [{"role": "assistant", "content": [{"type": "text", "text": "Well, "}]}]
    delivered = broken(chat_request(messages=messages))
    assert delivered is not None
    with pytest.raises(RequestError):
        continued_request(delivered, "openai", "prefill")


def test_an_endpoint_that_cannot_go_on_is_not_asked() -> None:
    delivered = broken(chat_request())
    assert delivered is not None
    with pytest.raises(RequestError):
        continued_request(delivered, "openai", "none")


def test_white_space_at_the_end_is_not_given() -> None:
    delivered = broken(chat_request(), "Hello", " \n")
    assert delivered is not None
    request, given = continued_request(delivered, "openai", "prefill")
    assert (request.messages[-1].text(), given) == ("Hello", 5)
    delivered = broken(chat_request(), "\n\n")
    assert delivered is not None
    request, given = continued_request(delivered, "openai", "vllm")
    assert (len(request.messages), given, request.extra) == (1, 0, {})


def test_a_completion_gets_the_text_behind_its_prompt() -> None:
    for prompt in ("Once ", ["Once "]):
        delivered = broken({"model": "m", "prompt": prompt, "echo": False}, "upon \n", face=CompletionsFace())
        sent = continued(delivered, "none")
        assert sent["prompt"] == "Once upon \n"


@pytest.mark.parametrize("prompt", [[1, 2, 3], ["a", "b"], [[1], [2]], [[1, 2]]])
def test_tokens_and_several_prompts_are_not_continued(prompt: object) -> None:
    assert broken({"model": "m", "prompt": prompt}, face=CompletionsFace()) is None


def test_completions_that_give_more_than_the_text_are_not_continued() -> None:
    for fields in ({"best_of": 2}, {"echo": True}, {"suffix": "x"}, {"logprobs": 1}):
        assert broken({"model": "m", "prompt": "a", **fields}, face=CompletionsFace()) is None


def test_generate_gets_the_text_behind_the_prompt_that_it_had() -> None:
    for messages, prompt in (
        ([{"role": "user", "content": "hi"}], "hi"),
        ([{"role": "system", "content": "be"}, {"role": "user", "content": "hi"}], "System: be\nUser: hi\nAssistant:"),
    ):
        delivered = broken(chat_request(messages=messages, max_tokens=50), " Hello", " ")
        assert delivered is not None
        request, given = continued_request(delivered, "generate", "none")
        sent = json.loads(GenerateDialect().encode(request, "up"))
        assert sent == {"prompt": f"{prompt} Hello ", "max_tokens": 48}
        assert given == len(" Hello ")


def test_a_message_of_our_own_protocol_is_continued() -> None:
    message = {"type": "INFER_REQUEST", "payload": {"prompt": "hi", "max_completion_tokens": 9}}
    sent = continued(broken(message, "Hello", " you", face=McpFace()))
    assert sent["messages"] == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello you"}]
    assert sent["max_completion_tokens"] == 7
    assert "max_tokens" not in sent


@pytest.mark.parametrize(
    ("asked", "texts", "counted", "left"),
    [
        (100, ["one", " two", " three"], -1, 97),
        (100, ["one", " two", " three"], 30, 70),
        (100, ["a long text in one piece, of forty letters"], -1, 99),
        (4, ["one", " two", " three"], -1, 1),
        (-1, ["one", " two", " three"], -1, -1),
    ],
)
def test_there_are_fewer_tokens_left(asked: int, texts: list[str], counted: int, left: int) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        sent = continued(broken(chat_request(**{name: asked}), *texts, tokens=counted))
        assert sent[name] == left
    assert "max_tokens" not in continued(broken(chat_request(), *texts))


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(("asked", "counted"), [(2, -1), (3, -1), (30, 30), (30, 31)])
def test_nothing_is_asked_for_when_no_tokens_are_left(name: str, asked: int, counted: int) -> None:
    assert broken(chat_request(**{name: asked}), "one", " two", " three", tokens=counted) is None


def test_done_is_no_event() -> None:
    delivered = delivered_text("a")
    delivered.take(DONE)
    request = ChatFace().infer(body(chat_request()), ChatFace().read(body(chat_request())))
    assert delivered.broke(request, "a", -1, -1)
