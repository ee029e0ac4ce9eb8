"""Runs the transcripts of the framed protocol: what one end is given, and what comes of it.

A file is a sequence of blocks separated by empty lines: lines that begin with `#` (remarks), commands, `----`, and
the expected output. With UPDATE_TRANSCRIPTS=1 in the environment the outputs are written anew, to be read and judged
before they are committed.

| command | does |
|---|---|
| `new NAME server/client [LIMIT=VALUE ...] [token=T] [window=N] [codecs=A,B]` | an end before its handshake |
| `open NAME server/client …` | an end after it |
| `NAME < OPCODE [stream=N] [aux=N] [arg=N] [FLAG ...] [PAYLOAD]` | the peer sends a frame |
| `NAME << HEX` | the peer sends bytes |
| `NAME METHOD [ARGUMENT ...]` | the role calls a method; `FLAG`s and numbers are what they are, `CODE!` is an error |
| `at S` | goes to that second; what is due is done, as after each command |

A payload is text in quotes, or `"x"*30000`. Output: `NAME > OPCODE …` is a frame that goes out, `NAME ! callback …`
what the role hears, `NAME = value` what a method returned. `open` says nothing of its handshake.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from tests.unit.protocol.pair import frames

from open_autoglm.errors import AutoGLMError
from open_autoglm.protocol import (
    PREFACE,
    ClientConnection,
    ConnectionSettings,
    Hello,
    ResumeStore,
    ServerConnection,
    Welcome,
    encode_frame,
    opcodes,
)
from open_autoglm.protocol.handshake import write_hello, write_welcome

FOLDER = Path(__file__).parent / "protocol"
NUMBERS = {name: number for number, name in opcodes.NAMES.items()}
BITS = {name: bit for bit, name in opcodes.FLAG_NAMES.items()}
TEXT_MAX = 60


class Role:
    """Says what it hears."""

    def __init__(self, stage: Stage, name: str, token: str) -> None:
        self.stage, self.name, self.token = stage, name, token
        self.end: Any = None

    def on_hello(self, hello: Hello) -> None:
        self.stage.say(f"{self.name} ! hello versions={','.join(hello.versions)} codecs={','.join(hello.codecs)}")
        self.end.accept(self.name, self.token, "me")

    def on_welcome(self, welcome: Welcome) -> None:
        self.stage.say(f"{self.name} ! welcome version={welcome.version} codec={welcome.codec}")

    def on_closed(self, code: str, message: str) -> None:
        self.stage.say(f"{self.name} ! closed {code}: {message}")

    def __getattr__(self, name: str) -> Any:
        def hear(*arguments: Any) -> None:
            self.stage.say(" ".join([f"{self.name} ! {name[3:]}", *map(shown, arguments)]))

        return hear


class Stage:
    """Some ends, and the clock beside them."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.clear()

    def clear(self) -> None:
        self.ends: dict[str, Any] = {}
        self.roles: dict[str, Role] = {}
        self.store = ResumeStore()
        self.now_s = 0.0

    def say(self, line: str) -> None:
        self.lines.append(line)

    def run(self, command: str) -> None:
        first, *words = re.findall(r'"[^"]*"(?:\*\d+)?|\S+', command)
        if first in ("new", "open"):
            self.make(*words, opened=first == "open")
        elif first == "at":
            assert float(words[0]) >= self.now_s, f"time goes back in {command!r}"
            self.now_s = float(words[0])
        elif words[0] == "<":
            self.ends[first].receive(frame(words[1:]), self.now_s)
        elif words[0] == "<<":
            self.ends[first].receive(bytes.fromhex("".join(words[1:])), self.now_s)
        else:
            self.call(first, words[0], words[1:])
        for end in self.ends.values():
            if end.next_deadline() <= self.now_s:
                end.handle_timeout(self.now_s)
        self.store.expire(self.now_s)
        for name, end in self.ends.items():
            for number, (opcode, flags, aux, stream, arg, payload) in enumerate(frames(self.taken(end))):
                assert number < 100, "a transcript is to be read"
                self.say(f"{name} > {written(opcode, flags, aux, stream, arg, payload)}")

    def taken(self, end: Any) -> bytes:
        data = b"".join(end.take())
        return data.removeprefix(PREFACE)

    def make(self, name: str, kind: str, *words: str, opened: bool) -> None:
        given = dict(word.split("=", 1) for word in words)
        token, window = given.pop("token", ""), int(given.pop("window", "262144"))
        codecs = given.pop("codecs", "json").split(",")
        settings = ConnectionSettings(
            **{key: float(text) if key.endswith("_s") else int(text) for key, text in given.items()}
        )  # type: ignore[arg-type]
        hello = Hello(versions=["1.0"], codecs=codecs, window=window)
        role = self.roles[name] = Role(self, name, token)
        if kind == "server":
            role.end = ServerConnection(role, _nothing, settings, self.now_s, self.store)  # type: ignore[arg-type]
            first = PREFACE + encode_frame(opcodes.HELLO, 0, write_hello(hello))
        else:
            role.end = ClientConnection(hello, role, _nothing, settings, self.now_s)  # type: ignore[arg-type]
            limits = {key: getattr(settings, key) for key in ("frame_bytes_max", "requests_max", "heartbeat_ms")}
            welcome = Welcome(version="1.0", codec=codecs[0], window=settings.window_bytes, **limits)
            first = encode_frame(opcodes.WELCOME, 0, write_welcome(welcome))
        self.ends[name] = role.end
        if opened:
            heard = len(self.lines)
            role.end.receive(first, self.now_s)
            role.end.take()
            del self.lines[heard:]

    def call(self, name: str, method: str, words: list[str]) -> None:
        end = self.ends[name]
        arguments = [argument(word) for word in words]
        if method in ("drain", "lose"):
            arguments.append(self.now_s)
        result = getattr(end, method)(*arguments)
        if result is not None:
            self.say(f"{name} = {result}")


def frame(words: list[str]) -> bytes:
    """A frame as a transcript writes it."""
    opcode, *rest = words
    fields: dict[str, int] = {"stream": 0, "aux": 0, "arg": 0}
    flags, payload = 0, b""
    for word in rest:
        key, _, value = word.partition("=")
        if word.startswith('"'):
            payload = argument(word)
        elif key in fields:
            fields[key] = int(value)
        else:
            flags |= BITS[word]
    number = NUMBERS.get(opcode) or int(opcode)
    return encode_frame(number, fields["stream"], payload, flags, fields["aux"], fields["arg"])


def argument(word: str) -> Any:
    """A word of a command as a value."""
    quoted = re.fullmatch(r'"(.*)"(?:\*(\d+))?', word)
    if quoted:
        return quoted[1].replace("'", '"').encode() * int(quoted[2] or 1)
    if word.endswith("!"):
        return AutoGLMError(word[:-1], "said by the transcript")
    if word.startswith("["):
        return [item for item in word.strip("[]").split(",") if item]
    if word.isdigit():
        return int(word)
    return BITS.get(word) or NUMBERS.get(word) or word


def written(opcode: int, flags: int, aux: int, stream: int, arg: int, payload: bytes) -> str:
    """A frame, to be read."""
    words = [opcodes.NAMES.get(opcode, str(opcode))]
    words += [f"{key}={value}" for key, value in (("stream", stream), ("aux", aux), ("arg", arg)) if value]
    words += [name for name, bit in BITS.items() if flags & bit]
    return " ".join([*words, shown(payload)] if payload else words)


def shown(value: Any) -> str:
    """An argument of a callback, to be read."""
    if not isinstance(value, bytes):
        return str(value)
    text = value.decode("utf-8", "backslashreplace")
    if len(text) > TEXT_MAX and len(set(text)) == 1:
        return f'"{text[0]}"*{len(text)}'
    return '"' + text.replace('"', "'") + '"'


def _nothing() -> None:
    pass


def play(text: str) -> str:
    """The transcript with the outputs as they are now."""
    stage = Stage()
    blocks = []
    for block in text.strip().split("\n\n"):
        head = block.split("\n----")[0]
        stage.lines.clear()
        for line in head.splitlines():
            if not line.startswith("#"):
                stage.run(line)
        blocks.append("\n".join([head, "----", *stage.lines]))
    return "\n\n".join(blocks) + "\n"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    played = play(text)
    if os.environ.get("UPDATE_TRANSCRIPTS"):
        path.write_text(played, encoding="utf-8")
    assert played == text


def test_there_are_transcripts() -> None:
    assert len(list(FOLDER.glob("*.txt"))) >= 8
