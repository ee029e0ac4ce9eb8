"""`autoglm nodes`: what is refused before anything is sent, and how a member's state is shown."""

from __future__ import annotations

import pytest
from tests.unit.cli.terminals import err, piped

from open_autoglm.cli.commands.nodes import shown_state
from open_autoglm.cli.main import run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["drain"], "the member is missing"),
        (["note"], "the member is missing"),
        (["drain", "n1", "x"], "takes no text"),
        (["drain", "n1", "--over", "abc"], "--over goes with"),
        (["note", "n1", "--over", "abc"], "--over goes with"),
    ],
)
def test_what_is_missing_or_too_much_is_said(words: list[str], said: str) -> None:
    terminal = piped(MCP_ADMIN_URL="http://127.0.0.1:9", MCP_ADMIN_KEY="key")
    assert run(["nodes", *words], terminal) == 1
    assert said in err(terminal)


@pytest.mark.parametrize(
    ("state", "drained", "shown"),
    [
        ("alive", True, "alive, drained"),
        ("suspect", True, "suspect, drained"),
        ("dead", True, "dead"),
        ("alive", False, "alive"),
        ("draining", None, "draining"),
    ],
)
def test_a_drained_node_is_shown_as_such(state: str, drained: bool | None, shown: str) -> None:
    assert shown_state({"state": state} | ({} if drained is None else {"drained": drained})) == shown
