"""`autoglm demo`: the embedded models behind one server, offline, with a key made for this run.

Everything that it writes is in a temporary folder, which is removed at the end.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import threading
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from open_autoglm import clock
from open_autoglm.cli.arguments import port_number
from open_autoglm.cli.chat_stream import Failed, Finished, Piece, stream_chat
from open_autoglm.cli.commands.serve import admin_url, data_url, print_models
from open_autoglm.cli.conversation import show
from open_autoglm.cli.curl_line import curl_line
from open_autoglm.cli.failure import DONE, FAILED, CommandFailed
from open_autoglm.cli.http_call import Target, parse_address
from open_autoglm.cli.terminal import Terminal
from open_autoglm.ids import new_key
from open_autoglm.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from open_autoglm.server.options import Started

QUESTION = "What is 274 + 658?"
CURL_QUESTION = "What is 347 + 486?"
_ANSWER_TIMEOUT_S = 20.0


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    parser.add_argument("--port", type=port_number, help="default: 8080, or a free one when that is taken")
    parser.add_argument(
        "--once", action="store_true", help="stop after the first answer; exit code 1 when there is none"
    )
    parser.add_argument("--no-question", action="store_true", help="ask nothing")


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Show a server at work until Ctrl-C."""
    from open_autoglm.engines.embedded import catalog
    from open_autoglm.server.options import ServeOptions
    from open_autoglm.server.run import serve

    models = default_first(list(catalog.names()), catalog.DEFAULT_MODEL)
    if not models:
        raise CommandFailed("this installation has no embedded models; install the package again")
    folder = tempfile.mkdtemp(prefix="autoglm-demo-")
    try:
        key = Secret(new_key())
        key_file = Path(folder) / "api.key"
        key_file.write_text(key.reveal() + "\n", encoding="ascii")
        key_file.chmod(0o600)
        text = configuration(models, key, folder)
        guide = _Guide(terminal, key, key_file, models[0], arguments.once, not arguments.no_question)
        port = free_port_or(8080, 0) if arguments.port is None else arguments.port
        options = ServeOptions(None, port=port, admin_port=free_port_or(8081, 0), text=text)
        code = serve(options, guide.start)
        if not arguments.once:
            terminal.line("\nThe demo has ended.")
        return code or guide.code
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def default_first(names: list[str], default: str) -> list[str]:
    """Put the default model first, where clients that ask for no model find it."""
    return sorted(names, key=lambda name: (name != default, name))


def configuration(models: list[str], key: Secret, folder: str) -> str:
    """Return the text of the demo's configuration. It holds the key."""
    return json.dumps(
        {
            "server": {"host": "127.0.0.1", "data_dir": folder},
            "models": [{"name": name, "endpoint": f"embedded:{name}"} for name in models],
            "auth": {"enabled": True, "api_keys": [{"name": "demo", "key": key.reveal()}]},
            "limits": {"requests_per_second": 0},  # so that `autoglm bench` finds the models' limit and not the key's
            "logging": {"file": f"{folder}/server.log"},
        }
    )


def free_port_or(port: int, other: int) -> int:
    """Return a port if nothing listens on it on loopback, else the other one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return other
    return port


def program() -> str:
    """Return how this program is started from a shell of the user's."""
    if shutil.which("autoglm"):
        return "autoglm"
    source = Path(__file__).parents[3]
    return f"PYTHONPATH={shlex.quote(str(source))} {shlex.quote(sys.executable)} -m mcp_server"


@dataclass(slots=True)
class _Guide:
    """Shows the user around, on a thread of its own since the server has the main one.

    Attributes:
        terminal: where.
        key, key_file: of this run.
        model: who is asked.
        once: whether the server ends after the answer.
        asks: whether a question is asked.
        code: exit code of the demo.
    """

    terminal: Terminal
    key: Secret
    key_file: Path
    model: str
    once: bool
    asks: bool
    code: int = DONE

    def start(self, started: Started) -> None:
        """Begin; called on the event loop once the server takes requests."""
        threading.Thread(target=self._run, args=(started,), name="demo-guide", daemon=True).start()

    def _run(self, started: Started) -> None:
        try:
            self._banner(started)
            if self.asks and not self._ask(data_url(started)):
                self.code = FAILED
            if not self.once:
                self._invite(data_url(started))
        except (OSError, CommandFailed) as error:  # the terminal has gone, most likely
            self.code = FAILED
            self.terminal.error(str(error))
            self.once = True
        finally:
            if self.once:
                os.kill(os.getpid(), signal.SIGINT)  # ends `serve` as a person would: what runs is finished

    def _banner(self, started: Started) -> None:
        terminal = self.terminal
        terminal.line("A server with models of its own; nothing leaves this machine.")
        terminal.line()
        terminal.line(f"  address  {terminal.styled(data_url(started), 'bold')}")
        terminal.line(f"  key      {self.key.reveal()}  (made for this run)")
        if started.admin_address is not None:
            terminal.line(f"  admin    {admin_url(started)}")
        terminal.line()
        print_models(started, terminal)
        terminal.line()
        terminal.out.flush()

    def _ask(self, url: str) -> bool:
        """Ask the first question over HTTP, as any client would; return whether it was answered."""
        terminal = self.terminal
        terminal.line(f"{terminal.styled(self.model, 'bold')} is asked: {QUESTION}")
        timing = _Timing(clock.monotonic())
        request = {"model": self.model, "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
        pieces = stream_chat(Target(parse_address(url), self.key), request, _ANSWER_TIMEOUT_S)
        shown = show(terminal, timing.watch(pieces))
        if shown.failure or not shown.text:
            terminal.error(shown.failure or "the answer is empty")
            return False
        terminal.line(terminal.styled(timing.words(), "dim"))
        return True

    def _invite(self, url: str) -> None:
        terminal = self.terminal
        terminal.line()
        terminal.line("Ask it from another terminal:")
        terminal.line()
        terminal.line(curl_line(url, self.key, self.model, CURL_QUESTION))
        terminal.line()
        terminal.line(f"{program()} chat --server {url} --key-file {shlex.quote(str(self.key_file))}")
        terminal.line()
        terminal.line("Ctrl-C ends it and removes everything that it wrote.")
        terminal.out.flush()


@dataclass(slots=True)
class _Timing:
    """When an answer's pieces came.

    Attributes:
        asked_s, first_s, end_s: monotonic seconds; zero while it has not happened.
        tokens: of the answer, when the server told.
    """

    asked_s: float
    first_s: float = 0.0
    end_s: float = 0.0
    tokens: int | None = None

    def watch(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """Pass pieces on and note when they came."""
        for piece in pieces:
            self.end_s = clock.monotonic()
            if isinstance(piece, Finished):
                self.tokens = piece.completion_tokens
            elif not isinstance(piece, Failed):
                self.first_s = self.first_s or self.end_s
            yield piece

    def words(self) -> str:
        """Say how long it took."""
        first_ms, total_ms = (self.first_s - self.asked_s) * 1000, (self.end_s - self.asked_s) * 1000
        tokens = f"{self.tokens} tokens, " if self.tokens is not None else ""
        return f"({tokens}the first after {first_ms:.0f} ms, all after {total_ms:.0f} ms)"
