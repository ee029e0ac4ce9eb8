"""Our server as its users run it: a process of its own, on free ports, with a configuration that a test can change."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
from tests.integration.speech import speak
from tests.integration.upstreams import Upstream

ROOT = Path(__file__).parents[2]
KEY = "key-of-the-tests"
ADMIN_KEY = "admin-key-of-the-tests"
STOP_S = 40.0


def model(name: str, endpoint: str, **more: Any) -> dict[str, Any]:
    """An entry of `models`."""
    return {"name": name, "endpoint": endpoint, **more}


class RunningServer:
    """A server process; use as a context.

    Args:
        folder: for its files.
        config: what differs from a quiet server on free ports with the key `KEY` and no limits.
        words: more of the command line.
        environ: more of the environment.
        config_file: start with this file as it stands instead.
        verify: whom its client trusts, when it speaks TLS.
        program: what starts it, instead of Python itself; `pass_fds` are open for it.

    Attributes:
        url, admin: addresses.
        http: a client with the key.
    """

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any] | None = None,
        *,
        words: tuple[str, ...] = (),
        environ: dict[str, str] | None = None,
        config_file: Path | None = None,
        verify: ssl.SSLContext | None = None,
        program: str = sys.executable,
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        self.folder = folder
        self.path = config_file or folder / "config.json"
        if config_file is None:
            self.path.write_bytes(self.encoded(config or {}))
        self._words = words
        self._program = program
        self._pass_fds = pass_fds
        self._environ = environ or {}
        self._log = folder / "server.log"
        self._http: dict[str, Any] = {} if verify is None else {"verify": verify}

    def __enter__(self) -> RunningServer:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MCP_", "OPENAI", "OLLAMA"))}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [self._program, "-m", "mcp_server", "--config", str(self.path), *self._words],
                env={**kept, "PYTHONPATH": str(ROOT / "src"), **self._environ},
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.folder,
                pass_fds=self._pass_fds,
                encoding="utf-8",
            )
        self.printed = ""
        assert self.process.stdout is not None
        while "admin listener on " not in self.printed:
            line = self.process.stdout.readline()
            assert line, f"the server did not start:\n{self.printed}{self.log()}"
            self.printed += line
        words = self.printed.split()
        self.url, self.admin = (
            words[at + 1].replace("//0.0.0.0:", "//127.0.0.1:") for at, word in enumerate(words) if word == "on"
        )
        self.http = httpx2.Client(
            base_url=self.url, headers={"authorization": f"Bearer {KEY}"}, timeout=20.0, **self._http
        )
        self._control = httpx2.Client(
            base_url=self.admin, headers={"authorization": f"Bearer {ADMIN_KEY}"}, timeout=20.0
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self._control.close()
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5.0)
        if self.process.poll() is None:  # what still runs is given up
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(STOP_S)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def encoded(self, config: dict[str, Any]) -> bytes:
        """A configuration as a file has it, with what every server of the tests needs."""
        base: dict[str, Any] = {
            "server": {"port": 0, "admin_port": 0, "admin_key": ADMIN_KEY, "data_dir": str(self.folder / "data")},
            "auth": {"api_key": KEY},
            "limits": {"requests_per_second": 0},
            "logging": {"requests": 1},
            "drain": {"accept": 0},
            "models": [],
        }
        for section, value in config.items():
            merged = isinstance(value, dict) and isinstance(base.get(section), dict) and section != "auth"
            base[section] = base[section] | value if merged else value
        return json.dumps(base, ensure_ascii=False).encode()

    def apply(self, *models: dict[str, Any], **sections: Any) -> int:
        """Make another configuration the active one, over the admin API; return its revision."""
        answer = self._control.post("/admin/v1/config", content=self.encoded({"models": list(models), **sections}))
        assert answer.status_code == 200, answer.text
        return int(answer.json()["revision"])

    def admin_get(self, path: str) -> Any:
        """Ask the admin listener."""
        answer = self._control.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json() if "json" in answer.headers["content-type"] else answer.text

    def admin_post(self, path: str, content: bytes = b"") -> httpx2.Response:
        """Tell the admin listener."""
        return self._control.post(path, content=content)

    def replace_file(self, content: bytes) -> None:
        """Put another configuration in the file's place, as editors do: write beside it, rename."""
        beside = self.path.with_suffix(".new")
        beside.write_bytes(content)
        beside.rename(self.path)

    def log(self) -> str:
        """What it has written to standard error."""
        return self._log.read_text(encoding="utf-8")

    def log_lines(self) -> list[dict[str, Any]]:
        """The same, decoded; without a line of which only a part is there yet."""
        whole = self.log().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def resident_bytes(self) -> int:
        """Its resident memory."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def ask(self, body: dict[str, Any] | bytes, path: str = "/v1/chat/completions", **headers: str) -> httpx2.Response:
        """Send a request and wait for the whole answer."""
        content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.post(path, content=content, headers=sent)

    def chat(self, name: str = "chat", stream: bool = False, **more: Any) -> httpx2.Response:
        """A small chat completion."""
        return self.ask(chat_body(name, stream, **more))


def chat_body(name: str = "chat", stream: bool = False, **more: Any) -> dict[str, Any]:
    """The body of a small chat completion."""
    return {"model": name, "messages": [{"role": "user", "content": "hello"}], "stream": stream, **more}


def events(answer: httpx2.Response) -> list[Any]:
    """The events of a stream, decoded; `[DONE]` as it stands."""
    assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
    found = []
    for line in answer.text.split("\n\n"):
        if line:
            data = line.removeprefix("data: ")
            found.append(data if data == "[DONE]" else json.loads(data))
    return found


def streamed_text(found: list[Any]) -> str:
    """The text of a streamed chat completion."""
    chunks = [one for one in found if one != "[DONE]" and one.get("choices")]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


@contextlib.contextmanager
def speaking_upstream(**options: Any) -> Iterator[Upstream]:
    """An upstream whose stations answer well unless told otherwise."""
    with Upstream(speak, **options) as upstream:
        yield upstream
