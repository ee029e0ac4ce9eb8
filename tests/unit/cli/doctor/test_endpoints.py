"""What an endpoint's answer means; the network side is in tests/integration."""

import json

import pytest

from open_autoglm.cli.doctor.endpoints import _listing, _Place, _place, _skew_s
from open_autoglm.config import ModelEntry, parse_config


def entry(endpoint: str, **fields: object) -> ModelEntry:
    text = json.dumps({"models": [{"name": "chat", "endpoint": endpoint, **fields}]})
    return parse_config(text, source="a.json", environ={}, trusted=True).config.models[0]


def listed(*names: str) -> bytes:
    return json.dumps({"data": [{"id": name} for name in names]}).encode()


@pytest.mark.parametrize(
    ("status", "body", "state", "words"),
    [
        (200, listed("chat", "other"), "ok", "has 'chat'"),
        (200, listed("a", "b"), "warn", "it has a, b"),
        (200, listed(*"abcdefgh"), "warn", "e, …"),
        (200, b"[]", "ok", "answers"),
        (200, b"no json", "ok", "answers"),
        (401, b"", "fail", "asks for a token"),
        (404, b"", "warn", "404"),
        (503, b"", "warn", "503"),
    ],
)
def test_lists_of_models(status: int, body: bytes, state: str, words: str) -> None:
    finding = _listing(entry("http://h/v1"), "topic", status, body)
    assert finding.state == state
    assert words in finding.message
    assert bool(finding.advice) == (state != "ok")


def test_a_token_that_is_refused() -> None:
    assert "refuses the token" in _listing(entry("http://h/v1", token="t"), "topic", 403, b"").message


@pytest.mark.parametrize(
    ("endpoint", "place"),
    [
        ("http://h:8001/v1", _Place(False, "h", 8001, "/v1", None)),
        ("https://h/v1", _Place(True, "h", 443, "/v1", None)),
        ("http://[::1]:9/generate", _Place(False, "::1", 9, "/generate", None)),
        ("unix:/run/llm.sock:/v1", _Place(False, "localhost", 0, "/v1", "/run/llm.sock")),
    ],
)
def test_places(endpoint: str, place: _Place) -> None:
    assert _place(entry(endpoint)) == place


def test_clocks() -> None:
    assert _skew_s(None) is None
    assert _skew_s("yesterday") is None
    skew_s = _skew_s("Thu, 01 Jan 1970 00:00:00 GMT")
    assert skew_s is not None
    assert skew_s < -1e9
