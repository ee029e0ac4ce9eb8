"""Text and tokens of models that bring their tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from open_autoglm.engines.events import Finish, GenerateEvent, GenerateRequest, ReasoningDelta, TextDelta
from open_autoglm.engines.model_folder import ModelFolder, write_manifest
from open_autoglm.engines.text_side import open_text
from open_autoglm.engines.tokenizers_layouts import LAYOUTS, specials_of
from open_autoglm.engines.tokenizers_text import TextReader, TokenizerText
from open_autoglm.errors import RequestError, ServerError

SPECIALS = sorted({each for layout in LAYOUTS.values() for each in (*specials_of(layout), *layout.ends)})
THINK = ["<think>", "</think>"]


def tokenizer_of(specials: list[str]) -> Tokenizer:
    """Byte-level pairs, as the tokenizers of GLM and Llama are."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300 + len(specials), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(["hello there, how are you", "user system assistant content"], trainer)
    tokenizer.add_special_tokens([AddedToken(each, special=True) for each in specials])
    return tokenizer


FULL = tokenizer_of([*SPECIALS, *THINK])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.json").write_text(FULL.to_str())
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": [5, 6]}))
    return tmp_path


def opened(folder: Path, layout: str) -> TokenizerText:
    write_manifest(folder, "onnx", ["tokenizer.json", "config.json"], text=layout)
    text = open_text(ModelFolder(folder), "m")
    assert isinstance(text, TokenizerText)
    return text


def ask(*messages: tuple[str, Any], **fields: Any) -> GenerateRequest:
    return GenerateRequest([{"role": role, "content": content} for role, content in messages], **fields)


def spelled(tokens: list[int]) -> str:
    return str(FULL.decode(tokens, skip_special_tokens=False))


@pytest.mark.parametrize(
    ("layout", "wanted"),
    [
        ("glm", "[gMASK]<sop><|system|>\nbe kind<|user|>\nhi<|assistant|>\n"),
        (
            "llama3",
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nbe kind<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        (
            "chatml",
            "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
        ),
        ("plain", "be kind\nhi\n"),
    ],
)
def test_a_conversation_is_written_as_the_family_does(folder: Path, layout: str, wanted: str) -> None:
    text = opened(folder, layout)
    assert spelled(text.prepare(ask(("developer", "be kind"), ("user", "hi")), 500).tokens) == wanted
    assert text.end_tokens >= {5, 6}
    assert text.vocabulary == FULL.get_vocab_size()


@given(st.lists(st.sampled_from([*"<|>[]{}user\n", "<|im_start|>", "<|im_end|>", "[gMASK]", "{content}"])).map("".join))
@settings(max_examples=100, deadline=None)
def test_what_a_client_writes_is_never_a_special_token(content: str) -> None:
    text = TokenizerText(tokenizer_of([*SPECIALS, *THINK]), LAYOUTS["chatml"], "name", [1])
    tokens = text.prepare(ask(("user", content + "."), ("assistant", content)), 5000).tokens
    specials = {FULL.token_to_id(each) for each in [*SPECIALS, *THINK]}
    assert sum(token in specials for token in tokens) == 5
    assert spelled(tokens).count(content + ".") == 1


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (ask(("user", "  ")), "invalid_request"),
        (ask(("user", "x"), temperature=3.0), "invalid_request"),
        (ask(("user", [{"type": "image_url"}])), "unsupported_parameter"),
        (ask(("robot", "x")), "unsupported_parameter"),
        (ask(("user", "x"), tools=[{"type": "function"}]), "unsupported_parameter"),
        (ask(("user", "x y " * 60)), "context_length_exceeded"),
        (ask(("user", "x" * 100_000)), "context_length_exceeded"),
        (ask(*[("user", "")] * 5000, ("user", "x")), "context_length_exceeded"),
    ],
)
def test_what_it_cannot_read_is_refused(folder: Path, request_: GenerateRequest, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        opened(folder, "glm").prepare(request_, 60)
    assert caught.value.code == code


def test_a_layout_that_does_not_fit_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").write_text(tokenizer_of(["<|im_end|>"]).to_str())
    with pytest.raises(ServerError, match="im_start"):
        opened(folder, "chatml")
    (folder / "config.json").write_text("{}")
    with pytest.raises(ServerError, match="eos_token_id"):
        opened(folder, "plain")
    (folder / "tokenizer.json").write_text("{" * 100)
    with pytest.raises(ServerError, match="cannot be used"):
        opened(folder, "plain")
    with pytest.raises(ServerError, match="layout"):
        opened(folder, "other")


def said(events: list[GenerateEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_pieces_of_an_answer_join_to_what_the_tokens_say(text: str) -> None:
    ids = FULL.encode(text, add_special_tokens=False).ids
    reader = TextReader(FULL, (None, None), ())
    pieces = [said(reader.push(token)) for token in ids]
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text
    assert "".join(pieces) + said(reader.finish("length")) == FULL.decode(ids)


def test_tokens_that_never_become_a_character_are_not_held_for_ever() -> None:
    reader = TextReader(FULL, (None, None), ())
    half = FULL.encode("é", add_special_tokens=False).ids[:1]
    assert any(said(reader.push(token)) for token in half * 40)


def test_an_answer_ends_before_a_stop_string() -> None:
    reader = TextReader(FULL, (None, None), ("are",))
    ids = FULL.encode("hello there, how are you", add_special_tokens=False).ids
    events = [event for token in ids for event in reader.push(token)]
    assert reader.stopped
    assert said([*events, *reader.finish("length")]) == "hello there, how "
    assert reader.finish("length")[-1] == Finish("stop")


def test_what_looks_like_a_stop_string_is_told_at_the_end() -> None:
    reader = TextReader(FULL, (None, None), ("are you there",))
    ids = FULL.encode("how are you", add_special_tokens=False).ids
    early = said([event for token in ids for event in reader.push(token)])
    assert early == "how "
    assert said(reader.finish("length")) == "are you"


def test_thinking_is_told_apart() -> None:
    begin, end = (FULL.token_to_id(each) for each in THINK)
    reader = TextReader(FULL, (begin, end), ())
    ids = [begin, *FULL.encode("why", add_special_tokens=False).ids, end, *FULL.encode("so").ids]
    events = [event for token in ids for event in reader.push(token)] + reader.finish("stop")
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "why"
    assert said(events) == "so"
