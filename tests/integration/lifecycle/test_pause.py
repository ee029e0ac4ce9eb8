"""A server that was frozen for longer than its requests had time: it says so, and asks no model for them any more."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.integration.running import RunningServer, model
from tests.integration.upstreams import Upstream, never

FROZEN_S = 1.5


def test_what_expired_while_it_was_frozen_is_not_tried_again(upstream: Upstream, tmp_path: Path) -> None:
    first, second = (upstream.station().always(never) for _ in range(2))
    config = {"models": [model("chat", first.url), model("chat", second.url)], "timeouts": {"total": "1s"}}
    with RunningServer(tmp_path, config) as server, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.chat)
        while not first.seen and not second.seen:
            time.sleep(0.01)
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(FROZEN_S)
        before = len(first.seen) + len(second.seen)
        server.process.send_signal(signal.SIGCONT)
        answer = asked.result()
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "deadline_exceeded"
        assert len(first.seen) + len(second.seen) == before
        assert server.http.get("/healthz").status_code == 200
