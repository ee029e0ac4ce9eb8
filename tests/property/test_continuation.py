"""A text that was cut anywhere and goes on elsewhere is the same text: no character twice, none lost."""

import itertools
import json
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from open_autoglm.dialects import ChatFace, GenerateDialect, OpenAIDialect, UpstreamDialect
from open_autoglm.dialects.continuation import Delivered, continued_request
from open_autoglm.dialects.continuing_relay import open_continuing_relay, open_keeping_relay
from open_autoglm.dialects.seam import TAIL_CHARS_MAX, TAIL_CHARS_MIN, WHOLE_CHARS_MIN, Seam

UNTIMED = settings(deadline=None)

words = st.sampled_from(
    [
        "the",
        "a",
        "of",
        "model",
        "stream",
        "again",
        "1,024",
        "«quoted»",
        "naïve",
        "你好",
        "世界",
        "🙂",
        "no",
        "no",
        "\n",
        "--",
    ]
)
prose = st.lists(words, min_size=2, max_size=80).map(" ".join)
dense = st.text("ab ", min_size=1, max_size=60)
texts = prose | dense | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)


@st.composite
def cut_texts(draw: st.DrawFn) -> tuple[str, str]:
    """A text in two parts, neither of them empty."""
    text = draw(texts.filter(lambda text: len(text) > 1))
    at = draw(st.integers(1, len(text) - 1))
    return text[:at], text[at:]


@st.composite
def splits(draw: st.DrawFn, text: str) -> list[str]:
    """The same text in pieces."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return [text[begin:end] for begin, end in itertools.pairwise([0, *cuts, len(text)])]


def joined(delivered: str, pieces: list[str], given_chars: int) -> str:
    seam = Seam(delivered, given_chars)
    return delivered + "".join(map(seam.feed, pieces)) + seam.end()


def says_twice(before: str, after: str) -> bool:
    """Whether a text says something long enough twice where it was cut, so that nobody can tell what happened."""
    tail = any(
        before.endswith(after[:size])
        for size in range(TAIL_CHARS_MIN, min(len(before), len(after), TAIL_CHARS_MAX) + 1)
    )
    return tail or (len(before) >= WHOLE_CHARS_MIN and after.startswith(before))


def in_a_row(text: str) -> bool:
    """Whether a text is something twice or more in a row, the last time maybe cut short."""
    return any(text[size:] == text[:-size] for size in range(1, len(text) // 2 + 1))


@UNTIMED
@given(st.data(), cut_texts())
def test_an_exact_continuation_is_passed_as_it_is(data: st.DataObject, parts: tuple[str, str]) -> None:
    before, after = parts
    assume(not says_twice(before, after))
    assert joined(before, data.draw(splits(after)), len(before)) == before + after


@UNTIMED
@given(st.data(), st.text("ab-\n ", min_size=1, max_size=12), st.integers(2, 12), st.integers(1, 100))
def test_runs_lose_nothing(data: st.DataObject, unit: str, times: int, at: int) -> None:
    text = unit * (times + 2)
    before, after = text[: at % len(text) or 1], text[at % len(text) or 1 :]
    assert joined(before, data.draw(splits(after)), len(before)) == text


@UNTIMED
@given(st.data(), cut_texts())
def test_a_server_that_says_the_whole_beginning_again(data: st.DataObject, parts: tuple[str, str]) -> None:
    before, after = parts
    assume(len(before) >= WHOLE_CHARS_MIN and not in_a_row(before[-400:]))
    assume(not says_twice(before, after) and not after.startswith(before[:1]))
    assert joined(before, data.draw(splits(before + after)), len(before)) == before + after


@UNTIMED
@given(st.data(), prose.filter(lambda text: len(text) > TAIL_CHARS_MIN), prose)
def test_a_server_that_says_the_end_again(data: st.DataObject, before: str, after: str) -> None:
    size = data.draw(st.integers(TAIL_CHARS_MIN, min(len(before), TAIL_CHARS_MAX)))
    again = before[-size:]
    new = again + after
    # What was said again must be the longest end that the new text begins with, and no part of a run.
    longest = max(n for n in range(size, min(len(before), len(new), TAIL_CHARS_MAX) + 1) if before.endswith(new[:n]))
    assume(longest == size and not in_a_row(again) and again not in (before[:-size] + after))
    assume(not before[:-size].endswith(again[-1:]) and not after.startswith(again[:1]))
    assert joined(before, data.draw(splits(new)), len(before)) == before + after


@UNTIMED
@given(st.data(), cut_texts(), st.text(" \n\t", min_size=1, max_size=6))
def test_white_space_that_was_not_given_is_not_doubled(data: st.DataObject, parts: tuple[str, str], white: str) -> None:
    stripped, after = parts[0].rstrip(), parts[1].lstrip()
    before = stripped + white
    assume(stripped and not says_twice(stripped, white + after) and not says_twice(before, white + after))
    assert joined(before, data.draw(splits(white + after)), len(stripped)) == before + after


@UNTIMED
@given(st.data(), texts, texts)
def test_what_comes_out_is_the_end_of_what_went_in(data: st.DataObject, before: str, new: str) -> None:
    out = joined(before, data.draw(splits(new)), data.draw(st.integers(len(before.rstrip()), len(before))))
    assert out.startswith(before)
    assert new.endswith(out[len(before) :])


# Whole streams: events of two endpoints, cut at any byte, in any split and with any line ends.

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}).encode()
FACE = ChatFace()
SPEAKERS: dict[str, UpstreamDialect] = {"openai": OpenAIDialect(), "generate": GenerateDialect()}


def spoken(dialect: str, text: str, pieces: list[str], *, ascii_only: bool) -> bytes:
    """A stream of a text in pieces, up to its end where there is a sign of it."""
    assert "".join(pieces) == text
    events: list[Any] = [{"text": piece} for piece in pieces]
    if dialect == "openai":
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": one} for one in pieces)]
        choices: list[Any] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
        events = [{"id": "c", "model": "m", "choices": [choice]} for choice in choices]
    return b"".join(b"data: " + json.dumps(one, ensure_ascii=ascii_only).encode() + b"\n\n" for one in events)


def told(stream: bytes) -> str:
    """The text of a client's stream."""
    values = [json.loads(line[6:]) for line in stream.split(b"\n\n") if line.startswith(b"data: {")]
    return "".join(choice["delta"].get("content") or "" for value in values for choice in value["choices"])


@st.composite
def broken_bytes(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """Some payloads of a stream, with any line ends, cut at any byte."""
    stream = stream.replace(b"\n", draw(st.sampled_from([b"\n", b"\r\n", b"\r"])))
    stream = stream[: draw(st.integers(0, len(stream)))]
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    return [stream[begin:end] for begin, end in itertools.pairwise([0, *cuts, len(stream)])]


@UNTIMED
@given(st.data(), prose, st.sampled_from(sorted(SPEAKERS)), st.sampled_from(sorted(SPEAKERS)), st.booleans())
def test_two_streams_are_one_whatever_byte_the_first_is_cut_at(
    data: st.DataObject, text: str, first: str, second: str, ascii_only: bool
) -> None:
    view = FACE.read(BODY)
    delivered = Delivered.of(view)
    assert delivered is not None
    request = FACE.infer(BODY, view)
    encoder = FACE.encoder(view, "r", "m", 1) if first == "generate" else None
    relay = open_keeping_relay(delivered, FACE, SPEAKERS[first], view, encoder=encoder, request=request)
    stream = spoken(first, text, data.draw(splits(text)), ascii_only=ascii_only)
    out = b"".join(map(relay.feed, data.draw(broken_bytes(stream))))
    assert text.startswith(told(out))
    assert relay.delivered_chars == len(told(out))
    may = delivered.broke(request, "m#1", -1, -1)
    assert may is (relay.stage == 2)
    if not may:
        return
    assert delivered.text == told(out)
    _, given_chars = continued_request(delivered, SPEAKERS[second].name, "prefill")
    rest = text[given_chars:]
    assume(not says_twice(told(out), rest) and not says_twice(told(out)[:given_chars], rest))
    heir, _ = open_continuing_relay(delivered, view, SPEAKERS[second], "prefill", to="m#2")
    more = spoken(second, rest, data.draw(splits(rest)), ascii_only=ascii_only)
    out += b"".join(map(heir.feed, data.draw(split_bytes(more)))) + heir.end()
    assert heir.failure is None
    assert told(out) == text
    assert heir.delivered_chars == len(text)


@st.composite
def split_bytes(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """The same bytes in several payloads."""
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    return [stream[begin:end] for begin, end in itertools.pairwise([0, *cuts, len(stream)])]
