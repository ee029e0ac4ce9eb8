"""Reloads under load: two configurations that differ in everything a client can see, and broken files in between.

Each answer shows which configuration made it: the name of the model that the upstream was asked for, the station that
answered, and the limit in the headers. An answer that shows two of them is a mixture.
"""

from __future__ import annotations

import http.client
import json
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.integration.running import KEY, RunningServer, model
from tests.integration.upstreams import Station, wait_until

LIMITS = {"a": 100_000, "b": 200_000}
BROKEN = (
    b"{",
    b"models: [",
    b'{"models": [{"name": "chat"}]}',
    b'{"modells": []}',
    b'{"models": [{"name": "chat", "endpoint": "ftp://x"}], "auth": {"api_key": "x"}}',
    b'{"models": [{"name": "chat", "endpoint": "embedded:glm-huge"}], "auth": {"api_key": "x"}}',
    b"\xff\xfe",
)


@dataclass
class Tally:
    """What was seen.

    Attributes:
        answers: by the configuration that made them.
        wrong: answers that failed, or show a mixture; the first few.
        applied, refused: reloads.
        ways: reloads by how they were made.
    """

    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    applied: int = 0
    refused: int = 0
    ways: Counter[str] = field(default_factory=Counter)


def configuration(server: RunningServer, stations: dict[str, Station], letter: str) -> bytes:
    """One of the two."""
    limits = {"requests_per_second": LIMITS[letter], "burst": LIMITS[letter]}
    return server.encoded(
        {
            "models": [model("chat", stations[letter].url, upstream_model=f"model-{letter}")],
            "auth": {"api_keys": [{"name": "tester", "key": KEY, "limits": limits}]},
            "logging": {"requests": 0},
        }
    )


def storm(
    server: RunningServer, stations: dict[str, Station], reloads: int, *, clients: int = 4, seed: int = 1
) -> Tally:
    """Reload so often, half of it with broken files, while clients ask all the time."""
    tally = Tally()
    stop = threading.Event()
    server.replace_file(configuration(server, stations, "a"))
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: active(server) == "a", "the first configuration is active")
    threads = [threading.Thread(target=_ask, args=(server, tally, stop, number)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        rng = random.Random(seed)
        letter = "a"
        for number in range(reloads):
            way = WAYS[number // 2 % len(WAYS)]
            tally.ways[way.__name__] += 1
            if number % 2:
                before = outcomes(server)["refused"]
                if not way(server, rng.choice(BROKEN)):
                    wait_until(lambda before=before: outcomes(server)["refused"] > before, "a broken file is refused")
                assert active(server) == letter, "the old configuration serves on"
                tally.refused += 1
            else:
                letter = "b" if letter == "a" else "a"
                way(server, configuration(server, stations, letter))
                wait_until(lambda letter=letter: active(server) == letter, f"configuration {letter} is active")
                tally.applied += 1
    finally:
        stop.set()
        for thread in threads:
            thread.join(30.0)
    return tally


def watched(server: RunningServer, content: bytes) -> bool:
    """The file changes, and the server sees it. Says whether it was refused at once."""
    server.replace_file(content)
    return False


def signalled(server: RunningServer, content: bytes) -> bool:
    """The file changes, and the server is told."""
    server.replace_file(content)
    server.process.send_signal(signal.SIGHUP)
    return False


def posted(server: RunningServer, content: bytes) -> bool:
    """A configuration is sent over the admin API."""
    return server.admin_post("/admin/v1/config", content).status_code in (400, 422)


WAYS: tuple[Callable[[RunningServer, bytes], bool], ...] = (posted, signalled, posted, watched)


def active(server: RunningServer) -> str:
    """The letter of the active configuration."""
    rows = server.admin_get("/admin/v1/models")["models"]
    return str(rows[0]["upstream_model"]).removeprefix("model-") if rows else ""


def outcomes(server: RunningServer) -> dict[str, int]:
    """Reloads so far, as the metrics have them."""
    counts = {"applied": 0, "refused": 0}
    for line in server.admin_get("/metrics").splitlines():
        if line.startswith("mcp_config_reload_total{"):
            counts[line.split('"')[1]] = int(float(line.split()[-1]))
    return counts


def _ask(server: RunningServer, tally: Tally, stop: threading.Event, number: int) -> None:
    """Ask over one kept-alive connection until told to stop: unary and streamed in turn."""
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20.0)
    stream = number % 2 == 0
    while not stop.is_set():
        stream = not stream
        body = json.dumps({"model": "chat", "stream": stream, "messages": [{"role": "user", "content": "x"}]})
        try:
            connection.request("POST", "/v1/chat/completions", body, {"authorization": f"Bearer {KEY}"})
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            tally.wrong.append(f"no answer: {error!r}")
            connection.close()
            continue
        shown = _configuration_of(answer, said, stream)
        if len(shown) == 1:
            tally.answers[shown.pop()] += 1
        elif len(tally.wrong) < 20:
            tally.wrong.append(f"{answer.status} shows {sorted(shown)}: {said[:200]!r} {answer.getheaders()}")
    connection.close()


def _configuration_of(answer: http.client.HTTPResponse, said: bytes, stream: bool) -> set[str]:
    """Letters of the configurations that an answer shows; empty for one that failed."""
    if answer.status != 200 or (stream and not said.endswith(b"data: [DONE]\n\n")):
        return set()
    first: Any = json.loads(said.removeprefix(b"data: ").split(b"\n\n")[0])
    limit = answer.getheader("x-ratelimit-limit-requests")
    letters = {value: letter for letter, value in LIMITS.items()}
    return {str(first["model"]).removeprefix("model-"), letters.get(int(limit or 0), "none")}
