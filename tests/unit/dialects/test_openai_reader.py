"""What surrounds a prompt is checked once; every body with it is judged as if it were the first."""

from __future__ import annotations

import pytest

from open_autoglm.dialects.chat import ChatFace
from open_autoglm.dialects.openai_reader import OpenAIReader
from open_autoglm.dialects.openai_view import ChatView
from open_autoglm.errors import RequestError

FIRST = b'{"model":"m","messages":[{"role":"user"}],"n":2}'


def _reading(reader: OpenAIReader, body: bytes) -> ChatView | tuple[str, str | None]:
    try:
        view = reader.read(body)
    except RequestError as error:
        return error.message, error.param
    assert isinstance(view, ChatView)
    return view


class TestKnownSurroundings:
    @pytest.mark.parametrize(
        "body",
        [
            FIRST.replace(b'[{"role":"user"}]', b"[]"),
            FIRST.replace(b'[{"role":"user"}]', b'"text"'),
            FIRST.replace(b'[{"role":"user"}]', b"[" * 70 + b"]" * 70),
            FIRST.replace(b'"user"', b'"\xff"'),
            FIRST.replace(b'"user"}]', b'"user"}],"messages":[{"role":"user"}]'),
            FIRST.replace(b'"user"}]', b'"user"}],"api_base":"http://a"'),
            FIRST.replace(b'"n":2', b'"n":9'),
            FIRST.replace(b'"n":2', b'"n":2,"\\u006e":1'),
            FIRST[:-1],
        ],
    )
    def test_a_bad_body_is_refused_before_and_after_a_good_one(self, body: bytes) -> None:
        reader = OpenAIReader(ChatView, "chat")
        for _ in range(2):
            with pytest.raises(RequestError):
                reader.read(body)
            reader.read(FIRST)
        assert len(reader._checked) == 1

    def test_nothing_is_kept_of_what_could_not_be_cut(self) -> None:
        reader = OpenAIReader(ChatView, "chat")
        spaced = FIRST.replace(b'"messages":', b'"messages" : ')
        assert reader.read(spaced) == reader.read(spaced)
        reader.read(FIRST.replace(b'"m"', b'"%b"' % (b"m" * 200)).replace(b'"n"', b'"%b":1,"n"' % (b"x" * 400)))
        assert not reader._checked

    @pytest.mark.parametrize("between", [b":", b": "])
    def test_a_body_with_known_surroundings_reads_as_any_other(self, between: bytes) -> None:
        bodies = [
            FIRST.replace(b'"messages":', b'"messages"' + between).replace(b"user", b"user%d" % number)
            for number in range(3)
        ]
        bodies.insert(2, bodies[0].replace(b'"n":2', b'"n":2 ,"stream":true'))
        reader = OpenAIReader(ChatView, "chat")
        for body in bodies + bodies:
            assert reader.read(body) == OpenAIReader(ChatView, "chat").read(body)
        assert len(reader._checked) == 2

    @pytest.mark.parametrize(
        "prompt", [b' [{"role":"user"}]', b'[{"role":"user"}] ', b'[{}],"n":[1]', b"[{}", b"7", b""]
    )
    def test_a_prompt_that_is_no_plain_value_is_left_to_the_decoder(self, prompt: bytes) -> None:
        body = FIRST.replace(b'[{"role":"user"}]', prompt)
        readers = OpenAIReader(ChatView, "chat"), OpenAIReader(ChatView, "chat")
        readers[0].read(FIRST)
        assert _reading(readers[0], body) == _reading(readers[1], body)

    def test_the_prompt_is_each_request_s_own(self) -> None:
        face = ChatFace()
        face.read(FIRST)
        assert face.read(FIRST.replace(b"user", b"system")).bulk == b'[{"role":"system"}]'

    def test_memory_has_an_end(self) -> None:
        reader = OpenAIReader(ChatView, "chat")
        for number in range(1500):
            reader.read(FIRST.replace(b'"m"', b'"m%d"' % number))
        assert len(reader._checked) == 1500 - 1024
