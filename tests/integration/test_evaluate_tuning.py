"""`autoglm evaluate --tune`: from a log of answers to a cascade that a configuration understands."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import msgspec
import pytest
from tests.integration.test_cli import cli
from tests.unit.cli.evaluate.test_tuning import evaluation

from open_autoglm.cli.evaluate.asking import digest_of
from open_autoglm.cli.evaluate.task import read_tasks
from open_autoglm.config import parse_config

ASKED = 1000


@pytest.fixture
def server() -> Iterator[str]:
    """A server that lists two models; all answers are in the log."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = json.dumps({"data": [{"id": "cheap"}, {"id": "dear"}]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *words: object) -> None:
            """Nothing is written."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=listener.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{listener.server_address[1]}"
    listener.shutdown()
    thread.join()
    listener.server_close()


@pytest.fixture
def words(tmp_path: Path, server: str) -> tuple[str, ...]:
    """The command, with a file of tasks and a log that has all answers."""
    path, log = tmp_path / "tasks.jsonl", tmp_path / "log.jsonl"
    lines = (json.dumps({"prompt": f"{number}?", "answer": number, "checker": "number"}) for number in range(ASKED))
    path.write_text("\n".join(lines))
    tasks = read_tasks(path, None)
    digests = {task.id: digest_of(task) for task in tasks}
    outcomes = evaluation(1, tasks)
    answers = (msgspec.structs.replace(each, digest=digests[each.task]) for each in outcomes)
    log.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in answers))
    return "evaluate", str(path), "--server", server, "--log", str(log)


def test_a_cascade_is_found_and_its_configuration_is_understood(words: tuple[str, ...]) -> None:
    done = cli(*words, "--tune", "0.08")
    assert done.returncode == 0, done.stderr
    assert f"a cascade, found with {ASKED} tasks" in done.stdout
    models = "".join(f"  - {{name: {name}, endpoint: http://127.0.0.1:9001/v1}}\n" for name in ("cheap", "dear"))
    text = f"models:\n{models}cooperation:\n{done.stdout.partition('cooperation:')[2].strip(chr(10))}\n"
    config = parse_config(text, source="team.yaml", environ={}, trusted=True).config
    assert config.cooperation["cascade"].strategy == "cascade"
    found = json.loads(cli(*words, "--tune", "0.08", "--json").stdout)["tuning"]
    assert found["error_bound"] <= 0.08
    assert found["cost"] < found["best_cost"]
    assert found["settings"]["thresholds"] == config.cooperation["cascade"].thresholds


@pytest.mark.parametrize(
    ("share", "code", "why"),
    [("0.001", 1, "no cascade of cheap, dear is shown"), ("5", 2, "is no share"), ("few", 2, "is no share")],
)
def test_what_cannot_be_found_is_said(words: tuple[str, ...], share: str, code: int, why: str) -> None:
    done = cli(*words, "--tune", share)
    assert done.returncode == code
    assert why in done.stderr
