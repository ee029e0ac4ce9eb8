"""What one answer of a model costs at most, over all who may give it."""

from __future__ import annotations

import json
from math import inf
from typing import Any

import pytest

from open_autoglm.config import parse_config
from open_autoglm.cooperation.team_run import Rates
from open_autoglm.server.teams import model_rates


def _model(name: str, price_in: float | None = None, price_out: float = 0.0) -> dict[str, Any]:
    price = {} if price_in is None else {"price": {"input_per_million": price_in, "output_per_million": price_out}}
    return {"name": name, "endpoint": f"http://{name.strip('*')}h{price_out:g}/v1", **price}


def _team(*members: str, **more: Any) -> dict[str, Any]:
    return {"strategy": "dynamic_voting", "members": members, **more}


CONFIG = {
    "models": [_model("a", 1.0, 9.0), _model("a", 2.0, 3.0), _model("b", 5.0, 5.0), _model("c"), _model("*", 7.0, 7.0)],
    "cooperation": {
        "free": _team("a", "b"),
        "bound": _team("a", "b", budget={"tokens": 500, "money": 0.5}),
        "safe": _team("a", fallback="b"),
    },
    "routing": {"fallbacks": {"c": ["a", "bound"], "bound": ["free"]}},
}


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("a", Rates(2.0, 9.0)),
        ("b", Rates(5.0, 5.0)),
        ("other", Rates(7.0, 7.0)),
        ("free", Rates(answers=False, drawn_tokens=inf, drawn_money=inf)),
        ("safe", Rates(5.0, 5.0, drawn_tokens=inf, drawn_money=inf)),
        ("c", Rates(2.0, 9.0, drawn_tokens=500, drawn_money=0.5)),
        ("bound", Rates(answers=False, drawn_tokens=inf, drawn_money=inf)),
    ],
)
def test_an_answer_costs_what_the_dearest_who_may_give_it_takes(name: str, rates: Rates) -> None:
    config = parse_config(json.dumps(CONFIG), source="a.json", environ={}, trusted=True).config
    assert model_rates(config, name) == rates
