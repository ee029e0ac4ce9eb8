"""What is typed into a chat, without a server."""

from tests.unit.cli.terminals import err, out, piped

from open_autoglm.cli.main import run

NOWHERE = ("--server", "http://127.0.0.1:1", "--model", "m")


def test_lines_that_cannot_be_answered_are_errors_and_the_rest_is_still_asked() -> None:
    terminal = piped("one\n\ntwo\n")
    assert run(["chat", *NOWHERE], terminal) == 1
    assert err(terminal).count("error: nothing listens") == 2
    assert out(terminal) == ""


def test_quit_ends_a_pipe_too() -> None:
    terminal = piped("/quit\nnever asked\n")
    assert run(["chat", *NOWHERE], terminal) == 0
    assert err(terminal) == ""


def test_commands_are_obeyed() -> None:
    terminal = piped("/model other\n/reset\n/help\n")
    assert run(["chat", *NOWHERE], terminal) == 0
    assert err(terminal).splitlines()[0] == "other is asked from now on"
    assert "/quit" in err(terminal)


def test_a_question_may_be_typed_as_an_argument() -> None:
    terminal = piped("not read\n")
    assert run(["chat", *NOWHERE, "what", "is", "it"], terminal) == 1
    assert err(terminal).count("error:") == 1


def test_without_a_model_the_server_is_asked_for_one() -> None:
    terminal = piped("hi\n")
    assert run(["chat", "--server", "http://127.0.0.1:1"], terminal) == 1
    assert "nothing listens" in err(terminal)
