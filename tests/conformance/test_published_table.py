"""`docs/dialects.md` is what the server does: each field of each route against each upstream, over the wire."""

from __future__ import annotations

from typing import Any

import pytest
from tests.conformance.matrix import ASKING, CHAT, COMPLETIONS, DIALECTS, EMBEDDINGS, FEATURES, SAMPLES, published
from tests.integration.running import RunningServer
from tests.integration.upstreams import Station

TABLES = published()
PROMPTS: dict[str, dict[str, Any]] = {
    CHAT: {"messages": ASKING, "max_tokens": 2},
    COMPLETIONS: {"prompt": "hello", "max_tokens": 2},
    EMBEDDINGS: {"input": "hello"},
}
GIVEN = ("model", "messages", "prompt", "input")
FIELDS = [
    pytest.param(route, name, dialect, id=f"{route.split('/')[2]}-{name.replace(' ', '_')}-{dialect}")
    for route in PROMPTS
    for name in TABLES[route]
    for dialect in DIALECTS
    if name not in GIVEN
]


def test_the_hand_written_cells_agree_with_the_published_table() -> None:
    for feature in FEATURES:
        if not feature.about:
            continue
        words = TABLES[feature.route][feature.about]
        refusing = {dialect for dialect, word in words.items() if word == "400"}
        assert set(feature.refused) == refusing, feature.name


def test_every_published_field_has_a_sample() -> None:
    assert {name for route in PROMPTS for name in TABLES[route]} - set(GIVEN) == set(SAMPLES)


@pytest.mark.parametrize(("route", "name", "dialect"), FIELDS)
def test_a_field_does_what_the_table_says(
    models: RunningServer, stations: dict[str, Station], route: str, name: str, dialect: str
) -> None:
    word = TABLES[route][name][dialect]
    sent = "something_new" if name == "any other field" else name
    body = {"model": dialect, **PROMPTS[route], sent: SAMPLES[name]}
    if name == "max_completion_tokens":
        del body["max_tokens"]
    if name == "tool_choice":
        body["tools"] = SAMPLES["tools"]
    if name == "stream_options":
        body["stream"] = True
    if name == "top_logprobs" and word == "passed":
        body["logprobs"] = True
    if name == "logprobs" and route == COMPLETIONS:
        body["logprobs"] = 2
    answer = models.ask(body, route)
    if word == "400":
        assert answer.status_code == 400, answer.text
        error = answer.json()["error"]
        assert error["code"] == "unsupported_parameter"
        blamed = {"generate": "tools"}.get(dialect, sent) if name == "tool_choice" else sent
        assert error["param"] == ("input" if route == EMBEDDINGS else blamed)
        assert error["type"] == "invalid_request_error"
        return
    assert answer.status_code == 200, answer.text
    if dialect == "embedded":
        return
    upstream = stations[dialect].seen[-1].json
    match word:
        case "ignored":
            assert sent not in upstream
        case "passed":
            assert upstream[sent] == body[sent]
        case _ if name == "max_completion_tokens":
            assert upstream["max_tokens"] == body[sent]
        case _:
            asked = {"include_usage": True} if dialect == "openai" else None
            assert upstream.get("stream_options") == asked
