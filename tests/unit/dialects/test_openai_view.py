"""What surrounds a prompt is checked once; every body with it is judged as if it were the first."""

from __future__ import annotations

import pytest

from open_autoglm.dialects.chat import ChatFace
from open_autoglm.dialects.openai_view import ChatView, OpenAIReader
from open_autoglm.errors import RequestError

FIRST = b'{"model":"m","messages":[{"role":"user"}],"n":2}'


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

    def test_the_prompt_is_each_request_s_own(self) -> None:
        face = ChatFace()
        face.read(FIRST)
        assert face.read(FIRST.replace(b"user", b"system")).bulk == b'[{"role":"system"}]'

    def test_memory_has_an_end(self) -> None:
        reader = OpenAIReader(ChatView, "chat")
        for number in range(1500):
            reader.read(FIRST.replace(b'"m"', b'"m%d"' % number))
        assert len(reader._checked) == 1500 - 1024
