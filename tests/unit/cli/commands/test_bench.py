"""What makes a load test's figures other than they seem, and what cannot be asked for."""

from argparse import Namespace

import pytest
from tests.unit.cli.terminals import err, piped

from open_autoglm.cli.commands.bench import CLIENT_BUSY, question_of, warnings_of
from open_autoglm.cli.http_call import Address, Target
from open_autoglm.cli.load.step import Step
from open_autoglm.cli.main import run
from open_autoglm.secret import Secret

TYPED = Namespace(prompt="你好", max_tokens=5, stream=True)


def test_the_request_is_framed_right() -> None:
    target = Target(Address(False, "::1", 8080, "/api"), Secret("k"))
    head, _, body = question_of(target, "m", TYPED).data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /api/v1/chat/completions HTTP/1.1"
    assert "host: [::1]:8080" in lines
    assert "authorization: Bearer k" in lines
    assert f"content-length: {len(body)}" in lines
    assert "你好".encode() in body


def test_limits_and_a_busy_client_are_told() -> None:
    steps = [Step(1, 1.0, 5, {"status 429": 7}), Step(2, 1.0, 5, {"timeout": 1}, client_cpu=CLIENT_BUSY + 0.1)]
    told = warnings_of(steps)
    assert "7 times status 429, 1 times timeout" in told[0]
    assert "requests_per_second" in told[1]
    assert "this client used" in told[2]
    assert warnings_of([Step(1, 1.0, 5)]) == []


@pytest.mark.parametrize("typed", [("--max-concurrency", "5000"), ("--seconds", "1000")])
def test_what_is_beyond_the_bounds_is_wrong_usage(typed: tuple[str, str]) -> None:
    terminal = piped()
    assert run(["bench", *typed], terminal) == 2
    assert typed[0] in err(terminal)


def test_a_server_that_is_not_there_has_no_knee() -> None:
    terminal = piped()
    assert run(["bench", "--server", "http://127.0.0.1:1", "--model", "m", "--seconds", "0.2"], terminal) == 1
    assert "no knee" in err(terminal)
    assert "connection lost" in err(terminal)
