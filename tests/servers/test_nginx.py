"""Our server behind and in front of nginx and HAProxy, with real load."""

import contextlib
import http.client
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.servers.processes import child, free_port, nginx, our_server, post, program, wait_listening

pytestmark = pytest.mark.servers

ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }
)
UPSTREAM = f"location / {{ default_type application/json; return 200 '{ANSWER}'; }}"
QUESTION = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    first, second = tmp_path / "one", tmp_path / "two"
    first.mkdir()
    second.mkdir()
    return first, second


def test_nginx_as_upstream_under_load_loses_nothing(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    script = tmp_path / "post.lua"
    script.write_text(f"wrk.method = 'POST'\nwrk.body = '{json.dumps(QUESTION)}'\n")
    with (
        nginx(folders[0], UPSTREAM) as upstream,
        our_server(folders[1], [{"name": "chat", "endpoint": f"http://127.0.0.1:{upstream}/v1"}]) as port,
    ):
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        command = [program("wrk"), "-t1", "-c32", "-d3s", "-s", str(script), url]
        shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    done = re.search(r"(\d+) requests in", shown)
    assert done is not None
    assert int(done[1]) > 500
    assert "Non-2xx" not in shown
    assert "Socket errors" not in shown


def test_nginx_that_closes_idle_connections_is_never_seen_by_clients(folders: tuple[Path, Path]) -> None:
    block = f"keepalive_timeout 1s; keepalive_requests 7; {UPSTREAM}"
    with (
        nginx(folders[0], block) as upstream,
        our_server(folders[1], [{"name": "chat", "endpoint": f"http://127.0.0.1:{upstream}/v1"}]) as port,
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection,
    ):
        for _ in range(300):
            connection.request("POST", "/v1/chat/completions", json.dumps(QUESTION))
            answer = connection.getresponse()
            assert answer.status == 200
            assert answer.read() == ANSWER.encode()


def test_streams_pass_through_nginx_in_front_piece_by_piece(folders: tuple[Path, Path]) -> None:
    with our_server(folders[0], [{"name": "glm-nano", "endpoint": "embedded:glm-nano"}]) as port:
        block = f"location / {{ proxy_pass http://127.0.0.1:{port}; proxy_buffering off; proxy_http_version 1.1; }}"
        with nginx(folders[1], block) as front:
            body = {"model": "glm-nano", "stream": True, "messages": [{"role": "user", "content": "What is 17 + 25?"}]}
            status, answer = post(front, "/v1/chat/completions", body)
    assert status == 200
    assert answer.endswith(b"data: [DONE]\n\n")
    assert answer.count(b"data: ") > 3


def test_haproxy_in_front(folders: tuple[Path, Path]) -> None:
    with our_server(folders[0], [{"name": "glm-nano", "endpoint": "embedded:glm-nano"}]) as port:
        front = free_port()
        path = folders[1] / "haproxy.cfg"
        path.write_text(
            "defaults\n mode http\n timeout connect 1s\n timeout client 30s\n timeout server 30s\n"
            f"frontend f\n bind 127.0.0.1:{front}\n default_backend b\n"
            f"backend b\n option httpchk GET /readyz\n server s 127.0.0.1:{port} check inter 200ms\n"
        )
        with child(program("haproxy"), "-f", str(path), cwd=folders[1]):
            wait_listening(front)
            body = {"model": "glm-nano", "messages": [{"role": "user", "content": "What is 17 + 25?"}]}
            status, answer = post(front, "/v1/chat/completions", body)
    assert status == 200
    assert json.loads(answer)["choices"][0]["message"]["content"].strip() == "42"
