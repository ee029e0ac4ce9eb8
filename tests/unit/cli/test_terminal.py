"""Styles and other people's control characters stay where they belong."""

import json

from tests.unit.cli.terminals import err, out, piped, screen

from open_autoglm.cli.terminal import standard_terminal


def test_styles_go_to_a_screen_only() -> None:
    assert screen().styled("x", "bold") == "\x1b[1mx\x1b[0m"
    assert piped().styled("x", "bold") == "x"
    assert screen().styled("", "dim") == ""


def test_a_screen_is_guarded_and_a_pipe_gets_what_was_said() -> None:
    assert screen().shown("a\x1b[2Jb\n你好") == "a\\x1b[2Jb\n你好"
    assert piped().shown("a\x1b[2Jb") == "a\x1b[2Jb"


def test_errors_go_to_standard_error_without_control_characters() -> None:
    terminal = piped()
    terminal.line("answer")
    terminal.error("bad \x1b]0;title\x07 name")
    assert out(terminal) == "answer\n"
    assert err(terminal) == "error: bad \\x1b]0;title\\x07 name\n"


def test_json_keeps_the_order_and_the_letters() -> None:
    terminal = piped()
    terminal.json({"b": "你好", "a": 1})
    assert json.loads(out(terminal)) == {"b": "你好", "a": 1}
    assert "你好" in out(terminal)
    assert out(terminal).index('"b"') < out(terminal).index('"a"')


def test_json_moves_no_cursor_and_stays_json() -> None:
    terminal = screen()
    value = {"a\x9b2J": "b\x1b]0;c\x07\x7f\u202ed\u2028"}
    terminal.json(value)
    assert json.loads(out(terminal)) == value
    assert all(letter.isprintable() or letter == "\n" for letter in out(terminal))


def test_the_process_has_a_terminal() -> None:
    terminal = standard_terminal()
    assert terminal.width > 0
    assert not terminal.interactive
