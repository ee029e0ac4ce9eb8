"""What passes through the gateway, what is changed on the way, and what never leaves it."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme
from tests.integration.running import KEY, RunningServer, chat_body, events, model, speaking_upstream, streamed_text
from tests.integration.speech import DONE, TEXT, delta, finish, speak
from tests.integration.upstreams import Upstream, pieces, status, whole

ODD_BODY = (
    '{ "model":"%s", "x_first": 123456789012345678901234567890,\t"messages":[{"role":"user",'
    '"content":"\\u4f60好 \\ud83d\\ude42","x_inner":{"a":[1.10,-0.0,1e5,null,true]}}],\n'
    '"temperature":0.10000000000000000001, "stream_options":null, "x_last":"\\/" }'
)
ODD_ANSWER = (
    b'{"x_new":98765432109876543210,"id":"1","object":"chat.completion","created":1,"model":"m", "choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"\\u4f60","x":1.50},"finish_reason":"stop","logprobs":null}],'
    b'"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2,"details":{"cached":12345678901234567890}}}\n'
)


def test_a_request_reaches_the_upstream_byte_for_byte(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station()
    server.apply(model(station.name, station.url))
    body = (ODD_BODY % station.name).encode()
    assert server.ask(body).status_code == 200
    assert station.seen[0].body == body


def test_only_the_name_of_the_model_is_replaced(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station()
    server.apply(model(station.name, station.url, upstream_model="vendor/模型-4"))
    answer = server.ask((ODD_BODY % station.name).encode())
    assert station.seen[0].body.decode() == ODD_BODY % "vendor/模型-4"
    assert answer.headers["x-mcp-model"] == station.name
    server.chat(station.name, stream=True)
    sent = station.seen[1].json
    assert (sent["model"], sent["stream"]) == ("vendor/模型-4", True)


def test_an_answer_reaches_the_client_byte_for_byte(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station().always(whole(ODD_ANSWER))
    server.apply(model(station.name, station.url))
    assert server.chat(station.name).content == ODD_ANSWER


def test_a_stream_reaches_the_client_byte_for_byte(server: RunningServer, upstream: Upstream) -> None:
    parts = (
        delta("a", x_new=123456789012345678901234567890, usage=None, obfuscation="aB3"),
        delta("").replace(b'"content":""', b'"reasoning_content":"\\u601d"'),
        delta("b").replace(b'"index":0', b'"index": 0,  "x":1.50'),
        finish().replace(b'"stop"', b'"stop","stop_reason":null'),
        DONE,
    )
    station = upstream.station().always(pieces(*parts))
    server.apply(model(station.name, station.url))
    for size in (0, 1, 50):
        station.always(pieces(*parts, cut_at=size))
        assert server.chat(station.name, stream=True).content == b"".join(parts)


def test_credentials(server: RunningServer, upstream: Upstream) -> None:
    station, other = upstream.station(), upstream.station()
    server.apply(model(station.name, station.url, token="upstream-token"), model(other.name, other.generate_url))
    for name in (station.name, other.name):
        server.chat(name)
        server.chat(name, stream=True)
        body = chat_body(name)
        plain = httpx2.post(f"{server.url}/v1/chat/completions", json=body, headers={"x-api-key": KEY, "cookie": "c=1"})
        assert plain.status_code == 200
    for seen in (*station.seen, *other.seen):
        everything = f"{seen.path} {seen.headers} {seen.body!r}"
        assert KEY not in everything
        assert "cookie" not in seen.headers
        assert "x-api-key" not in seen.headers
    assert {seen.headers["authorization"] for seen in station.seen} == {"Bearer upstream-token"}
    assert not any("authorization" in seen.headers for seen in other.seen)
    assert "upstream-token" not in server.log()
    assert KEY not in server.log()


def test_request_id_and_trace(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station()
    server.apply(model(station.name, station.url))
    trace = "0af7651916cd43dd8448eb211c80319c"
    answer = server.ask(
        chat_body(station.name), x_request_id="my.request:1", traceparent=f"00-{trace}-b7ad6b7169203331-01"
    )
    assert answer.headers["x-request-id"] == "my.request:1"
    assert station.seen[0].headers["x-request-id"] == "my.request:1"
    parent = station.seen[0].headers["traceparent"]
    assert re.fullmatch(rf"00-{trace}-[0-9a-f]{{16}}-0[01]", parent)
    assert "b7ad6b7169203331" not in parent, "the span is ours"
    answer = server.ask(chat_body(station.name), x_request_id="bad id\twith spaces", traceparent="nonsense")
    assert answer.headers["x-request-id"] == station.seen[1].headers["x-request-id"] != "bad id\twith spaces"
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", station.seen[1].headers["traceparent"])
    failed = server.ask(chat_body("none"), x_request_id="my.request:2")
    assert failed.json()["error"]["request_id"] == failed.headers["x-request-id"] == "my.request:2"


def test_context_path(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station()
    server.apply(model(station.name, station.url), server={"context_path": "/api/llm"})
    body = chat_body(station.name)
    try:
        assert server.ask(body, "/api/llm/v1/chat/completions").status_code == 200
        assert server.ask(body, "/v1/chat/completions").status_code == 404
        assert server.http.get("/api/llm/v1/models").json()["data"][0]["id"] == station.name
        assert server.http.get(f"/api/llm/v1/models/{station.name}").json()["id"] == station.name
        assert server.http.get("/api/llm/healthz").status_code == 200
        message = {"opcode": 10, "payload": {"prompt": "x"}}
        assert server.ask(message, "/api/llm/mcp/v1/messages").json()["opcode"] == 11
        assert station.seen[0].path == f"/{station.name}/v1/chat/completions"
    finally:
        server.apply(model(station.name, station.url))


def test_unknown_routes_and_methods(server: RunningServer) -> None:
    assert server.http.get("/v1/nothing").status_code == 404
    answer = server.http.get("/v1/chat/completions")
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
    assert httpx2.get(f"{server.url}/v1/models").status_code == 401
    assert httpx2.get(f"{server.url}/healthz").status_code == 200


def test_readiness_says_why(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station()
    server.apply(model(station.name, station.url))
    assert server.http.get("/readyz").status_code == 200
    server.apply()
    answer = server.http.get("/readyz")
    assert answer.status_code == 503
    assert "no model is configured" in answer.text
    assert server.chat("any").status_code == 503


def test_the_wildcard_takes_every_other_name(server: RunningServer, upstream: Upstream) -> None:
    named, rest = upstream.station(), upstream.station()
    server.apply(model("named", named.url), model("*", rest.url))
    answer = server.chat("any/thing:7b")
    assert answer.json()["model"] == "any/thing:7b"
    assert answer.headers["x-mcp-model"] == "any/thing:7b"
    server.chat("named")
    assert (len(named.seen), len(rest.seen)) == (1, 1)


def test_connections_are_kept_and_reused(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station()
    server.apply(model(station.name, station.url))
    for number in range(20):
        assert server.chat(station.name, stream=number % 2 == 0).status_code == 200
    assert len({seen.connection for seen in station.seen}) == 1


def test_a_body_that_is_too_large_is_refused(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station()
    server.apply(model(station.name, station.url), limits={"body_bytes": "64KiB"})
    with httpx2.Client(base_url=server.url, headers={"authorization": f"Bearer {KEY}"}) as http:
        answer = http.post("/v1/chat/completions", content=b"x" * 100_000)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
        assert http.post("/v1/chat/completions", json=chat_body(station.name)).status_code == 200
    server.apply(model(station.name, station.url))
    large = chat_body(station.name) | {"messages": [{"role": "user", "content": "汉" * 1_000_000}]}
    assert server.ask(large).status_code == 200
    assert len(station.seen[-1].json["messages"][0]["content"]) == 1_000_000


def test_an_answer_that_is_too_large_is_refused(server: RunningServer, upstream: Upstream) -> None:
    station = upstream.station().always(whole(ODD_ANSWER + b" " * 100_000))
    server.apply(model(station.name, station.url, max_retries=0), limits={"response_bytes": "64KiB"})
    assert server.chat(station.name).status_code == 502
    server.apply(model(station.name, station.url, max_retries=0))
    assert server.chat(station.name).status_code == 200


def test_a_unix_socket(server: RunningServer, tmp_path: Path) -> None:
    with speaking_upstream(unix_path=str(tmp_path / "model.sock")) as upstream:
        station = upstream.station()
        server.apply(model("plain", station.url), model("other", station.generate_url))
        assert server.chat("plain").json()["choices"][0]["message"]["content"] == TEXT
        assert streamed_text(events(server.chat("other", stream=True))) == TEXT
        assert [seen.path.rpartition("/")[2] for seen in station.seen] == ["completions", "generate"]
    answer = server.chat("plain")
    assert answer.status_code == 502
    assert str(tmp_path) not in answer.text


class TestTls:
    @pytest.fixture
    def authority(self, tmp_path: Path) -> trustme.CA:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        return authority

    def upstream_context(self, authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        return context

    def test_to_the_upstream(self, server: RunningServer, tmp_path: Path, authority: trustme.CA) -> None:
        with speaking_upstream(tls=self.upstream_context(authority)) as upstream:
            station = upstream.station()
            trusted = model("trusted", station.url, ca=str(tmp_path / "ca.pem"), max_retries=0)
            server.apply(trusted, model("untrusted", station.url, max_retries=0))
            for stream in (False, True, True):
                assert server.chat("trusted", stream).status_code == 200
            assert len({seen.connection for seen in station.seen}) == 1
            answer = server.chat("untrusted")
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
            assert len(station.seen) == 3

    def test_a_name_that_does_not_match(self, server: RunningServer, tmp_path: Path, authority: trustme.CA) -> None:
        with speaking_upstream(tls=self.upstream_context(authority, "elsewhere.test")) as upstream:
            station = upstream.station()
            server.apply(model("named", station.url, ca=str(tmp_path / "ca.pem"), max_retries=0))
            assert server.chat("named").status_code == 502
            assert station.seen == []

    def test_to_the_client_and_from_client_to_upstream(
        self, upstream: Upstream, tmp_path: Path, authority: trustme.CA
    ) -> None:
        issued = authority.issue_cert("127.0.0.1", "localhost")
        issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        issued.private_key_pem.write_to_path(tmp_path / "key.pem")
        (tmp_path / "key.pem").chmod(0o600)
        trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        station = upstream.station()
        files = {"cert": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
        config: dict[str, Any] = {"tls": files, "models": [model("chat", station.url)]}
        with RunningServer(tmp_path, config, verify=trusting) as server:
            assert server.url.startswith("https://")
            assert server.chat().json()["choices"][0]["message"]["content"] == TEXT
            assert streamed_text(events(server.chat(stream=True))) == TEXT
            with pytest.raises(httpx2.ConnectError):
                httpx2.get(f"{server.url}/healthz")

    def test_clients_with_certificates_only(self, upstream: Upstream, tmp_path: Path, authority: trustme.CA) -> None:
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
        (tmp_path / "both.pem").chmod(0o600)
        anonymous = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        known = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        authority.issue_cert("client@example.test").configure_cert(known)
        both = str(tmp_path / "both.pem")
        config: dict[str, Any] = {
            "tls": {"cert": both, "key": both, "client_ca": str(tmp_path / "ca.pem")},
            "models": [model("chat", upstream.station().url)],
        }
        with RunningServer(tmp_path, config, verify=known) as server:
            assert server.chat().status_code == 200
            with pytest.raises(httpx2.TransportError):
                httpx2.get(f"{server.url}/healthz", verify=anonymous)


def test_what_an_upstream_says_of_itself_stays_inside(server: RunningServer, upstream: Upstream) -> None:
    told = "failed at http://10.0.0.7:8000/v1 with Bearer sk-abcdef1234567890"
    station = upstream.station().then(status(400, told), status(500, told))
    server.apply(model(station.name, station.url, max_retries=0))
    for _ in range(2):
        text = server.chat(station.name).text
        assert "10.0.0.7" not in text
        assert "sk-abcdef" not in text
    station.always(speak)
    assert server.chat(station.name).status_code == 200
