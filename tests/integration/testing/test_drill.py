"""`autoglm drill` from end to end: a server of its own, or one that is there, on real sockets."""

from __future__ import annotations

import json

from tests.unit.cli.terminals import err, out, piped

from open_autoglm.cli.main import run


def test_a_server_is_started_and_drilled() -> None:
    terminal = piped()
    assert run(["drill", "--only", "3,13,33", "--rounds", "1", "--json"], terminal) == 0
    told = json.loads(out(terminal))
    assert told["totals"]["unary"] == {"rescued": 3, "told": 0, "wrong": 0}
    assert told["totals"]["stream"] == {"rescued": 3, "told": 0, "wrong": 0}


def test_a_gateway_that_is_not_there_is_told_as_such() -> None:
    terminal = piped()
    typed = ["drill", "--target", "http://127.0.0.1:1", "--only", "cut", "--listen", "127.0.0.1:19150"]
    assert run(typed, terminal) == 1
    assert "does not answer for 'drill-08' even before any fault" in err(terminal)
