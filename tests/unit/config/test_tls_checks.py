"""Certificates in a configuration: of endpoints, of the cluster, and names that stand for keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.config.conftest import Parse, Problems

from open_autoglm.transport.settings import FrameLimits, connection_settings


@pytest.fixture
def files(tmp_path: Path) -> str:
    for name in ("ca", "cert", "key"):
        (tmp_path / f"{name}.pem").write_text("x")
        (tmp_path / f"{name}.pem").chmod(0o600)
    return str(tmp_path)


def test_an_endpoint_and_the_cluster_have_files_of_their_own(parse: Parse, files: str) -> None:
    config = parse(f"""
        models:
        - {{name: m, endpoint: "mcps://node:8090", ca: {files}/ca.pem, client_cert: {files}/cert.pem, client_key: {files}/key.pem}}
        cluster: {{secret: 0123456789abcdef, tls: {{ca: {files}/ca.pem, cert: {files}/cert.pem, key: {files}/key.pem}}}}
        tls: {{cert: {files}/cert.pem, key: {files}/key.pem, client_ca: {files}/ca.pem}}
        auth: {{api_keys: [{{name: a, key: k, certificates: ["dns:a.example", "uri:spiffe://x/a"]}}]}}
        """).config  # noqa: E501
    [entry] = config.models
    assert (entry.endpoint, entry.dialect, entry.tls_name) == ("mcps://node:8090", "mcp", None)
    assert (entry.client_cert, entry.client_key) == (f"{files}/cert.pem", f"{files}/key.pem")
    assert config.cluster.tls is not None
    assert config.cluster.tls.ca == f"{files}/ca.pem"
    assert config.auth.keys[0].certificates == ["dns:a.example", "uri:spiffe://x/a"]


MODEL = 'models: [{name: m, endpoint: "%s", %s}]'
KEYS = "auth: {api_keys: [%s]}\nmodels: [{name: m, endpoint: 'http://h/v1'}]"


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        (MODEL % ("mcps://h:1", "client_cert: F/cert.pem"), "models[0].client_cert", "needs `client_key`"),
        (MODEL % ("mcps://h:1", "client_key: F/key.pem"), "models[0].client_key", "needs `client_cert`"),
        (
            MODEL % ("mcp://h:1", "client_cert: F/cert.pem, client_key: F/key.pem"),
            "models[0].client_cert",
            "not asked within TLS",
        ),
        (MODEL % ("mcps://h", ""), "models[0].endpoint", "write mcps://HOST:PORT"),
        ("cluster: {secret: 0123456789abcdef, tls: {ca: F/no.pem}}", "cluster.tls.ca", "no such file"),
        ("cluster: {secret: 0123456789abcdef, tls: {cert: F/cert.pem}}", "cluster.tls.ca", "is missing"),
        (
            "cluster: {secret: 0123456789abcdef, tls: {ca: F/ca.pem, key: F/key.pem}}",
            "cluster.tls.key",
            "needs `cluster.tls.cert`",
        ),
        (KEYS % "{name: a, key: k, certificates: [x.example]}", "auth.api_keys[0].certificates[0]", "write dns:NAME"),
        (
            KEYS % "{name: a, key: k, certificates: ['dns:x']}",
            "auth.api_keys[0].certificates[0]",
            "set `tls.client_ca`",
        ),
        (
            KEYS % "{name: a, key: k, certificates: ['dns:x']}, {name: b, key: l, certificates: ['dns:x']}"
            + "\ntls: {cert: F/cert.pem, key: F/key.pem, client_ca: F/ca.pem}",
            "auth.api_keys[1].certificates[0]",
            "stands for the key 'a' already",
        ),
        ("limits: {frames: {frame_bytes: 1KiB}}", "limits.frames.frame_bytes", "64"),
        ("limits: {frames: {handshake_timeout: 2m}}", "limits.frames.handshake_timeout", "60"),
        ("limits: {frames: {streams: 0}}", "limits.frames.streams", "1"),
    ],
)
def test_what_does_not_fit_together_is_named(problems: Problems, files: str, text: str, path: str, said: str) -> None:
    found = problems(text.replace("F/", f"{files}/"))
    assert path in [problem.path for problem in found]
    assert said in next(problem.message for problem in found if problem.path == path)


def test_limits_of_frames_are_those_of_a_connection(parse: Parse) -> None:
    limits = parse("""
        models: [{name: m, endpoint: "http://h/v1"}]
        limits: {frames: {frame_bytes: 2MiB, streams: 7, window: 64KiB, heartbeat: 500ms, handshake_timeout: 3s,
                          waiting_bytes: 128KiB, stall_timeout: 5s}}
        """).config.frames
    told = connection_settings(limits, 2**50)
    assert (told.frame_bytes_max, told.message_bytes_max, told.requests_max) == (2 << 20, 1 << 30, 7)
    assert (told.window_bytes, told.heartbeat_ms, told.handshake_s) == (65536, 500, 3.0)
    assert (told.waiting_bytes_max, told.stall_s) == (131072, 5.0)
    assert connection_settings(FrameLimits(), 1).message_bytes_max == 65536, "as long as a frame, at least"
