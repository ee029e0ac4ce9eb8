"""The echo engine keeps the interface that every engine has."""

from __future__ import annotations

import pytest

from open_autoglm.engines.echo import EchoEngine
from open_autoglm.engines.events import Finish, GenerateEvent, GenerateRequest, TextDelta, Usage
from open_autoglm.engines.model_engine import LiveVersion, ModelEngine
from open_autoglm.errors import RequestError, ServerError


def request(content: object) -> GenerateRequest:
    return GenerateRequest([{"role": "user", "content": "before"}, {"role": "user", "content": content}])


def test_it_says_the_last_message_before_submit_returns() -> None:
    engine: ModelEngine = EchoEngine("m")
    heard: list[GenerateEvent] = []
    engine.submit(request("one two"), heard.extend)
    assert heard == [TextDelta("one two"), Finish("stop"), Usage(2, 2, "1")]
    assert (engine.load().tokens_total, engine.load().passes_total) == (2, 1)


@pytest.mark.parametrize("messages", [[], [{"role": "user"}], [{"role": "user", "content": ["x"]}]])
def test_it_needs_a_text(messages: list[dict[str, object]]) -> None:
    with pytest.raises(RequestError, match="no text"):
        EchoEngine().submit(GenerateRequest(messages), lambda events: None)


def test_its_version_is_a_name_that_can_be_changed_and_changed_back() -> None:
    engine = EchoEngine()
    with pytest.raises(RequestError, match="is current already"):
        engine.publish("1")
    with pytest.raises(RequestError, match="no version"):
        engine.rollback()
    engine.publish("2")
    assert engine.versions() == (LiveVersion("2", "current", 0), LiveVersion("1", "kept", 0))
    assert engine.rollback() == "1"
    engine.forget()
    assert engine.versions() == (LiveVersion("1", "current", 0),)
    assert engine.swap_figures().swaps_total == 2


def test_a_closed_one_refuses() -> None:
    engine = EchoEngine()
    engine.close()
    with pytest.raises(ServerError, match="being stopped"):
        engine.submit(request("x"), lambda events: None)
