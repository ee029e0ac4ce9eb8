"""The line that is meant to be pasted."""

import json
import shlex
import subprocess

import pytest

from open_autoglm.cli.curl_line import curl_line
from open_autoglm.secret import Secret

QUESTIONS = [
    "What is 731 - 286?",
    'it\'s `uname` $HOME "quoted" \\ !',
    "你好\nsecond line",
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_shell_takes_it_apart_as_it_was_meant(question: str) -> None:
    line = curl_line("http://127.0.0.1:8080/api", Secret("mcp_1"), "glm-nano", question)
    told = subprocess.run(
        ["/bin/sh", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    words = told.split("\0")[:-1]
    assert words == shlex.split(line)
    assert words[:5] == ["curl", "-sS", "-w", r"\n", "http://127.0.0.1:8080/api/v1/chat/completions"]
    assert "authorization: Bearer mcp_1" in words
    assert json.loads(words[-1])["messages"] == [{"role": "user", "content": question}]


@pytest.mark.parametrize("question", QUESTIONS)
def test_it_is_one_line(question: str) -> None:
    assert "\n" not in curl_line("http://h", Secret("k"), "m", question)
