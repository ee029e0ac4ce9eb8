"""A virtual model that plans, through a whole server: tools are called, the answer comes in every form."""

from __future__ import annotations

import json
from typing import Any

from tests.integration.cooperation.members import say
from tests.integration.running import RunningServer, events, model, streamed_text
from tests.integration.speech import delta, finish
from tests.integration.upstreams import Behaviour, Upstream, Wire

PLAN = [
    {"id": 1, "tool": "calculator", "args": {"expression": "6 * 7"}},
    {"id": 2, "tool": "calculator", "args": {"expression": "$1 + 1"}},
]


def slowly(text: str) -> Behaviour:
    """Stream a text character by character."""

    async def behave(wire: Wire) -> None:
        await wire.start_stream()
        for character in text:
            await wire.chunk(delta(character))
        await wire.chunk(finish() + b"data: [DONE]\n\n")
        await wire.end_stream()

    return behave


def apply(server: RunningServer, *models: dict[str, Any], **entry: Any) -> None:
    team = {"strategy": "plan_execute", "members": [], "tools": ["calculator"], "timeout": "10s", **entry}
    server.apply(*models, cooperation={"team": team}, tools={"calculator": True}, retries={"max": 0})


def test_an_embedded_model_plans_and_the_calculator_computes(server: RunningServer) -> None:
    apply(server, model("nano", "embedded:glm-nano"), planner="nano")
    question = [{"role": "user", "content": "Work out 53 + 487 and then subtract 8506 from it"}]
    answer = server.chat("team", messages=question)
    assert answer.json()["choices"][0]["message"]["content"] == "-7966"
    streamed = server.chat("team", stream=True, messages=question)
    assert streamed_text(events(streamed)) == "-7966"


def test_tasks_ask_models_and_an_aggregator_writes_the_answer(server: RunningServer, upstream: Upstream) -> None:
    plan = [PLAN[0], {"id": "ask", "model": "helper", "args": {"prompt": "Is ${1} much?"}}]
    stations = {
        name: upstream.station(name).always(behaviour)
        for name, behaviour in (
            ("planner", slowly(json.dumps(plan))),
            ("helper", say("Yes.")),
            ("writer", say("It is much [ask].")),
        )
    }
    models = [model(name, station.url) for name, station in stations.items()]
    apply(server, *models, planner="planner", members=["helper"], aggregator="writer")
    assert server.chat("team").json()["choices"][0]["message"]["content"] == "It is much [ask]."
    asked = json.loads(stations["helper"].seen[0].body)
    assert asked["messages"][-1]["content"] == "Is 42 much?"


def test_what_happens_is_told_as_it_happens(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station("planner").always(slowly(json.dumps(PLAN)))
    apply(server, model("planner", station.url), planner="planner")
    text = server.chat("team", stream=True, mcp_events=True).text
    names = [line.removeprefix("event: mcp.") for line in text.splitlines() if line.startswith("event: mcp.")]
    assert names[-1] == "decided"
    assert [name for name in names if name.startswith("task_")].count("task_done") == 2
    assert {"plan", "tool_called"} <= set(names)


def test_a_planner_without_a_plan_leads_to_the_fallback(server: RunningServer, upstream: Upstream) -> None:
    planner = upstream.station("planner").always(slowly("I would rather not."))
    other = upstream.station("other").always(say("instead"))
    apply(server, model("planner", planner.url), model("other", other.url), planner="planner", fallback="other")
    assert server.chat("team").json()["choices"][0]["message"]["content"] == "instead"
    assert len(planner.seen) == 3


def test_a_plan_is_heard_while_it_is_streamed(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station("planner").always(slowly(json.dumps(PLAN)))
    apply(server, model("planner", station.url), planner="planner")
    assert server.chat("team").json()["choices"][0]["message"]["content"] == "43"
    assert json.loads(station.seen[0].body)["stream"] is True
