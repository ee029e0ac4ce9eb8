"""What is shown of an answer, and what is kept of it."""

from collections.abc import Iterator

from tests.unit.cli.terminals import out, piped, screen

from open_autoglm.cli.chat_stream import Failed, Finished, Piece, Reasoning, Text
from open_autoglm.cli.conversation import MESSAGES_MAX, Conversation, show
from open_autoglm.cli.http_call import Address, Target

NOBODY = Target(Address(False, "127.0.0.1", 1))
"""Nothing listens on port 1."""


def answer(*pieces: Piece) -> Iterator[Piece]:
    return iter(pieces)


def test_text_is_shown_as_it_comes_and_ends_with_a_line_end() -> None:
    terminal = piped()
    shown = show(terminal, answer(Text("你"), Text("好"), Finished("stop")))
    assert (shown.text, shown.failure) == ("你好", "")
    assert out(terminal) == "你好\n"


def test_reasoning_is_dimmed_on_a_screen_and_absent_from_a_pipe() -> None:
    whole = (Reasoning("4+8"), Text("12"), Finished("stop"))
    terminal = screen()
    assert show(terminal, answer(*whole)).text == "12"
    assert out(terminal) == "\x1b[2m4+8\x1b[0m\n12\n"
    for quiet, reasoning in ((piped(), True), (screen(), False)):
        show(quiet, answer(*whole), reasoning=reasoning)
        assert out(quiet) == "12\n"


def test_a_failure_ends_the_line_and_is_not_shown_as_text() -> None:
    terminal = piped()
    shown = show(terminal, answer(Text("hal"), Failed("it broke")))
    assert (shown.text, shown.failure) == ("hal", "it broke")
    assert out(terminal) == "hal\n"


def test_a_failure_before_any_text_shows_nothing() -> None:
    terminal = piped()
    assert show(terminal, answer(Failed("no"))).failure == "no"
    assert out(terminal) == ""


def test_an_answer_cannot_move_the_cursor() -> None:
    terminal = screen()
    show(terminal, answer(Text("\x1b[2J"), Finished("stop")), reasoning=False)
    assert "\x1b[2J" not in out(terminal)


def test_a_question_that_failed_leaves_no_trace() -> None:
    conversation = Conversation(NOBODY, "m", timeout_s=2.0)
    assert "nothing listens" in conversation.ask("hi", piped()).failure
    assert conversation.messages == []


def test_reset_keeps_what_the_system_said() -> None:
    system = {"role": "system", "content": "be brief"}
    conversation = Conversation(NOBODY, "m", messages=[system, {"role": "user", "content": "hi"}])
    conversation.reset()
    assert conversation.messages == [system]


def test_a_conversation_does_not_grow_without_end() -> None:
    conversation = Conversation(NOBODY, "m", messages=[{"role": "user", "content": "x"}] * MESSAGES_MAX)
    assert "/reset" in conversation.ask("hi", piped()).failure
