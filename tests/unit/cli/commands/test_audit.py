"""The commands that read the audit, and those that draw a run."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest

from open_autoglm.cli.main import run
from open_autoglm.telemetry.audit import AuditTrail
from open_autoglm.telemetry.audit_file import AuditFile
from open_autoglm.telemetry.run_record import Label
from open_autoglm.telemetry.run_view import view_of
from open_autoglm.voting.candidate import Candidate
from open_autoglm.voting.catalog import make_strategy
from open_autoglm.voting.knowledge import Knowledge, Member
from open_autoglm.voting.settings import TeamSettings

from ..terminals import err, out, piped

KEY = "a key of the audit's"
MEMBERS = (Member("a"), Member("b"), Member("模型"))


def record(trail: AuditTrail, name: str, *, end: bool = True) -> None:
    """A vote of three, 42 against 41."""
    settings = TeamSettings(early_exit="none", weighting="equal")
    strategy = make_strategy("dynamic_voting", MEMBERS, settings, Knowledge(), 1)
    header = {"settings": settings, "members": MEMBERS, "knowledge": Knowledge(), "seed": 1}
    told = trail.begin(name, {"model": "team", "strategy": "dynamic_voting", **header})
    for ask, answer in zip(strategy.begin(), ("42", "41", "42"), strict=True):
        told.event("asked", ask)
        candidate = Candidate(ask.number, ask.member, answer)
        strategy.take(candidate)
        told.event("candidate", candidate)
    if end:
        told.end(strategy.decision, cost=0.5)


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "audit" / "audit.jsonl"
    file = AuditFile(str(path), KEY.encode(), bytes_max=2**20, keep=1, durable=False)
    trail = AuditTrail(file, key=KEY.encode())
    record(trail, "req-1")
    record(trail, "req-2")
    trail.begin("req-3", {"model": "team"}).end(None, failure="cancelled")
    trail.close()
    return path


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    path = tmp_path / "audit.key"
    path.write_text(KEY)
    path.chmod(0o600)
    return str(path)


def said(*words: str, code: int = 0) -> str:
    """Run a command; return what it wrote, errors too."""
    terminal = piped()
    assert run(list(words), terminal) == code, out(terminal) + err(terminal)
    return out(terminal) + err(terminal)


def test_a_whole_chain_is_said_to_be_whole(audit: Path, key_file: str) -> None:
    told = said("audit", "verify", "--file", str(audit), "--key-file", key_file)
    assert "whole: records 1 to 21, with the key" in told
    head = told.rpartition("head ")[2].strip()
    said("audit", "verify", "--file", str(audit), "--key-file", key_file, "--expect", head)
    broken = said("audit", "verify", "--file", str(audit), "--expect", head, code=1)
    assert "hash does not fit" in broken
    assert "name it with --key-file" in broken
    wrong = f"21:{'0' * 64}"
    assert "not the one that was noted" in said(
        *("audit", "verify", "--file", str(audit), "--key-file", key_file, "--expect", wrong), code=1
    )
    said("audit", "verify", "--file", str(audit), "--expect", "21", code=2)


def test_the_configuration_says_where_the_audit_is(audit: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.json"
    config.write_text(json.dumps({"server": {"data_dir": str(tmp_path / "data")}, "audit": {"key": KEY}}))
    config.chmod(0o600)
    assert "with the key" in said("audit", "verify", "--config", str(config))
    assert "no audit at" in said("audit", "verify", "--file", str(tmp_path / "none"), code=1)


def test_the_first_broken_record_is_named(audit: Path, key_file: str) -> None:
    lines = audit.read_bytes().splitlines(keepends=True)
    audit.write_bytes(b"".join([*lines[:4], lines[4].replace(b'"member":"a"', b'"member":"b"'), *lines[5:]]))
    told = said("audit", "verify", "--file", str(audit), "--key-file", key_file, code=1)
    assert "audit.jsonl line 5, record 5: was changed: its hash does not fit it; whole up to record 4" in told
    as_json = json.loads(said("audit", "verify", "--file", str(audit), "--key-file", key_file, "--json", code=1))
    assert (as_json["ok"], as_json["line"], as_json["last"]) == (False, 5, 4)


def test_records_that_are_gone_are_named_until_somebody_knows_why(audit: Path, key_file: str) -> None:
    lines = audit.read_bytes().splitlines(keepends=True)
    audit.write_bytes(b"".join(lines[:-3]))
    trail = AuditTrail(AuditFile(str(audit), KEY.encode(), bytes_max=2**20, keep=1, durable=False), key=KEY.encode())
    record(trail, "req-4")
    trail.close()
    verify = ("audit", "verify", "--file", str(audit), "--key-file", key_file)
    told = said(*verify, code=1)
    assert "not whole: audit.jsonl line 19, record 19, " in told
    assert "records 19 to 21, which had been written, were not there any more" in told
    assert "what is there is as it was written: records 1 to 29" in told
    known = told.partition("--known ")[2].partition("`")[0]
    assert "whole: records 1 to 29, with the key" in said(*verify, "--known", known)
    as_json = json.loads(said(*verify, "--json", code=1))
    assert (as_json["ok"], as_json["reason"], as_json["gaps"][0]["line"]) == (False, "", 19)


def test_runs_are_listed_and_shown(audit: Path, tmp_path: Path) -> None:
    rows = said("audit", "show", "--file", str(audit)).splitlines()
    assert [row.split()[0] for row in rows[1:4]] == ["req-3", "req-2", "req-1"]
    assert rows[1].split()[2] == "cancelled"
    assert rows[2].split()[2] == "all_in"
    listed = json.loads(said("audit", "show", "--file", str(audit), "--limit", "1", "--json"))
    assert [each["run"] for each in listed["runs"]] == ["req-3"]
    assert "team  dynamic_voting of 3 members" in said("audit", "show", "req-1", "--file", str(audit))
    assert said("audit", "show", "req-1", "--file", str(audit), "--ascii").isascii()
    drawn = tmp_path / "run.svg"
    assert f"drawn into {drawn}" in said("audit", "show", "req-1", "--file", str(audit), "--svg", str(drawn))
    assert "模型" in drawn.read_text(encoding="utf-8")
    assert "cannot be written" in said("audit", "show", "req-1", "--file", str(audit), "--svg", str(tmp_path), code=1)
    assert json.loads(said("audit", "show", "req-1", "--file", str(audit), "--json"))["header"]["model"] == "team"
    assert "no run 'req-9'" in said("audit", "show", "req-9", "--file", str(audit), code=1)


def test_runs_are_decided_again(audit: Path) -> None:
    assert "req-1: the same decision" in said("replay", "req-1", "--file", str(audit))
    told = said("replay", "--file", str(audit))
    assert told == "2 the same, 0 different, 1 that cannot be decided again\n"
    assert "nothing was decided" in said("replay", "req-3", "--file", str(audit), code=1)
    audit.write_bytes(audit.read_bytes().replace(b'"reason":"all_in"', b'"reason":"lead"'))
    assert 'reason was "lead", and is "all_in" now' in said("replay", "req-2", "--file", str(audit), code=1)
    as_json = json.loads(said("replay", "--file", str(audit), "--json", code=1))
    assert (as_json["same"], as_json["different"], len(as_json["runs"])) == (0, 2, 2)


def test_what_cannot_be_read_is_said_in_a_line(audit: Path) -> None:
    audit.write_bytes(audit.read_bytes().replace(b'"data":{', b'"data":[{').replace(b'},"hash":', b'}],"hash":'))
    for words in (("audit", "show"), ("audit", "show", "req-1"), ("replay", "req-1"), ("replay",)):
        assert "autoglm audit verify" in said(*words, "--file", str(audit), code=1)


@contextmanager
def admin(answer: Callable[[str, str], dict[str, Any] | None]) -> Iterator[str]:
    """An admin listener that answers with what `answer` makes of a method and a path, 404 where that is nothing."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            self.rfile.read(length)
            made = answer(self.command, self.path)
            nothing = {"error": {"code": "not_found", "message": f"nothing at {self.path}"}}
            body = json.dumps(nothing if made is None else made).encode()
            self.send_response(404 if made is None else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def explained(run_view: object) -> dict[str, Any]:
    return {"request_id": "req-1", "model": "team", "stages": [], "attempts": [], "cooperation": run_view}


def test_a_trace_shows_the_run_below_the_request(tmp_path: Path) -> None:
    trail = AuditTrail(None, texts=True)
    record(trail, "req-1")
    kept = trail.runs.get("req-1")
    assert kept is not None
    kept.labels.append(Label("human", True, "42", ""))
    view = msgspec.to_builtins(view_of(kept))
    with admin(lambda method, path: explained(view)) as url:
        told = said("trace", "req-1", "--server", url)
        assert "◀ decided" in told
        assert "human said: right, the answer is 42" in told
        assert said("trace", "req-1", "--server", url, "--ascii").isascii()
        drawn = tmp_path / "run.svg"
        said("trace", "req-1", "--server", url, "--svg", str(drawn))
        assert drawn.read_text(encoding="utf-8").startswith("<svg ")
    with admin(lambda method, path: explained(None)) as url:
        assert "dynamic" not in said("trace", "req-1", "--server", url)
        assert "asked for none" in said("trace", "req-1", "--server", url, "--svg", str(drawn), code=1)


def test_what_memory_has_no_more_is_traced_from_the_audit() -> None:
    trail = AuditTrail(None)
    record(trail, "req-1")
    kept = trail.runs.get("req-1")
    assert kept is not None
    view = msgspec.to_builtins(view_of(kept))

    def answer(method: str, path: str) -> dict[str, Any] | None:
        return view if path.endswith("/req-1/run") else None

    with admin(answer) as url:
        told = said("trace", "req-1", "--server", url)
        assert "in the server's memory no more" in told
        assert "◀ decided" in told
        as_json = json.loads(said("trace", "req-1", "--server", url, "--json"))
        assert as_json["cooperation"]["run"] == "req-1"
        assert "nothing at /admin/v1/requests/req-2/explain" in said("trace", "req-2", "--server", url, code=1)


def test_feedback_is_sent_as_it_was_typed() -> None:
    asked: list[tuple[str, str]] = []

    def answer(method: str, path: str) -> dict[str, Any]:
        asked.append((method, path))
        return {"run": "req-1", "by": "human", "right": False, "learned": len(asked) == 1}

    with admin(answer) as url:
        told = said("feedback", "req-1", "--wrong", "--server", url)
        assert "wrong, by human; its virtual model learned from it" in told
        assert "not served any more" in said("feedback", "req-1", "--right", "--server", url)
        said("feedback", "a/b", "--answer", "4 2", "--by", "verifier", "--server", url)
        said("feedback", "req-1", "--right", "--answer", "x", "--server", url, code=2)
    assert asked == [
        ("POST", "/admin/v1/requests/req-1/feedback?right=false&by=human"),
        ("POST", "/admin/v1/requests/req-1/feedback?right=true&by=human"),
        ("POST", "/admin/v1/requests/a%2Fb/feedback?answer=4+2&by=verifier"),
    ]
