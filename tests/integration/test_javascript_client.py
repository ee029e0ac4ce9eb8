"""The JavaScript client of `examples/javascript`, written from the protocol's page alone, with a real server."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import signal
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
from tests.integration.client.cutting_relay import CuttingRelay
from tests.integration.running import KEY, RunningServer, model, speaking_upstream
from tests.integration.speech import DONE, delta, finish
from tests.integration.upstreams import Wire, pieces
from tests.servers.processes import program

pytestmark = pytest.mark.servers

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "javascript"
DRIVER = Path(__file__).parent / "javascript_driver.mjs"
PATIENCE_S = 60.0
NANO = model("glm-nano", "embedded:glm-nano")
COUNTED = tuple(f"第{number}句，" for number in range(400))
COUNTING = pieces(*map(delta, COUNTED), finish(), DONE, pause_s=0.002)
LONG_PART = "一段很长的话。" * 400
LONG_CHARS = len(LONG_PART) * 1200
LONG = pieces(*[delta(LONG_PART)] * 1200, finish(), DONE)


class JavaScript:
    """A Node.js process that holds clients; use as a context.

    Attributes:
        began: ids of streams whose first chunk has come.
    """

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.began: dict[int, asyncio.Event] = {}

    async def __aenter__(self) -> JavaScript:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            program("node"), str(DRIVER), stdin=pipe, stdout=pipe, limit=1 << 26
        )
        self._hearing = asyncio.create_task(self._hear())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            assert await asyncio.wait_for(self._process.wait(), PATIENCE_S) == 0, "it ends by itself, with nothing open"
        finally:
            self._hearing.cancel()
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def tell(self, do: str, **words: Any) -> tuple[int, asyncio.Future[dict[str, Any]]]:
        """Say what to do; returns its id and, later, its result."""
        number = next(self._ids)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        self.began[number] = asyncio.Event()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, "do": do, **words}).encode() + b"\n")
        return number, self._waiting[number]

    async def do(self, do: str, **words: Any) -> dict[str, Any]:
        """Say what to do, and wait for the result."""
        return await asyncio.wait_for(self.tell(do, **words)[1], PATIENCE_S)

    async def infer(self, name: str, body: Any, client: str = "c", **options: Any) -> dict[str, Any]:
        """Ask, as the key's client unless another is named."""
        return await self.do("infer", client=client, model=name, body=body, options=options)

    def stream(self, name: str, body: Any, pause_ms: int = 0, **options: Any) -> tuple[int, Any]:
        """Begin a stream."""
        return self.tell("stream", client="c", model=name, body=body, options=options, pause_ms=pause_ms)

    async def _hear(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            told = json.loads(line)
            if told.pop("began", False):
                self.began[told["id"]].set()
            else:
                self._waiting.pop(told.pop("id")).set_result(told)


def address_of(server: RunningServer, scheme: str = "mcp", host: str = "127.0.0.1") -> str:
    return f"{scheme}://{host}:{urlsplit(server.url).port}"


@contextlib.asynccontextmanager
async def talking(
    folder: Path, *models: dict[str, Any], **config: Any
) -> AsyncIterator[tuple[RunningServer, JavaScript]]:
    """A server with some models, and a client `c` of it."""
    server = RunningServer(folder, {"models": list(models) or [NANO], **config})
    await asyncio.to_thread(server.__enter__)
    try:
        async with JavaScript() as javascript:
            await javascript.do("open", client="c", address=address_of(server), options={"key": KEY})
            yield server, javascript
    finally:
        await asyncio.to_thread(server.__exit__)


async def run_node(*words: str, **environ: str) -> str:
    """Run Node.js to its end, which must be a good one; returns what it printed."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        program("node"), *words, cwd=ROOT, env=environ, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    printed, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 0, printed.decode()
    return printed.decode()


async def test_the_vectors_and_the_rules() -> None:
    files = [str(path) for path in sorted(EXAMPLES.glob("*.test.mjs"))]
    printed = await run_node("--test", "--test-reporter=tap", *files)
    counted = re.search(r"^# pass (\d+)\n# fail 0\n# cancelled 0\n# skipped 0$", printed, re.MULTILINE)
    assert counted is not None, printed
    assert int(counted[1]) >= 90


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_answers(tmp_path: Path, codec: str) -> None:
    async with talking(tmp_path) as (server, javascript):
        options = {"key": KEY, "codecs": [codec]}
        await javascript.do("open", client="c", address=address_of(server), options=options)
        answer = await javascript.infer("glm-nano", "What is 274 + 658?")
        assert (answer["text"], answer["finish"], answer["model"]) == ("932", "stop", "glm-nano")
        over_http = server.chat("glm-nano", messages=[{"role": "user", "content": "What is 274 + 658?"}]).json()
        assert answer["completionTokens"] == over_http["usage"]["completion_tokens"]

        chinese = {"messages": [{"role": "user", "content": "你好！你是谁？"}], "temperature": 0, "max_tokens": 60}
        told = server.ask({"model": "glm-nano", **chinese}).json()["choices"][0]["message"]["content"]
        assert re.search(r"[\u4e00-\u9fff]", told)
        assert (await javascript.infer("glm-nano", chinese))["text"] == told
        streamed = await javascript.stream("glm-nano", chinese)[1]
        assert streamed["text"] == told
        assert streamed["chunks"] > 1


async def test_many_at_once(tmp_path: Path) -> None:
    async with talking(tmp_path) as (_, javascript):
        asked = [javascript.infer("glm-nano", f"What is {number} + 58?") for number in range(64)]
        answers = await asyncio.gather(*asked)
        assert [answer["text"] for answer in answers] == [str(number + 58) for number in range(64)]


async def test_errors_are_typed(tmp_path: Path) -> None:
    async with talking(tmp_path) as (server, javascript):
        await javascript.do("open", client="wrong", address=address_of(server), options={"key": "wrong"})
        refused = (await javascript.infer("glm-nano", "hi", client="wrong"))["error"]
        assert (refused["name"], refused["code"], refused["status"]) == ("McpError", "invalid_api_key", 401)
        unknown = (await javascript.infer("no-such-model", "hi"))["error"]
        assert (unknown["code"], unknown["status"], unknown["retryable"]) == ("model_not_found", 404, False)
        wrong = (await javascript.infer("glm-nano", {"prompt": "hi", "max_tokens": "many"}))["error"]
        assert (wrong["code"], wrong["status"]) == ("invalid_request", 400)
        assert (await javascript.infer("glm-nano", "What is 1 + 2?"))["text"] == "3"


async def test_a_deadline(tmp_path: Path) -> None:
    with speaking_upstream() as upstream:
        station = upstream.station().always(Wire.wait_gone)
        async with talking(tmp_path, model("slow", station.url)) as (_, javascript):
            error = (await javascript.infer("slow", "hi", timeoutMs=300))["error"]
            assert (error["code"], error["status"], error["retryable"]) == ("deadline_exceeded", 504, True)
            assert not error["message"].startswith("no answer within"), "the server said so, not the client's own clock"


async def test_a_cancelled_stream_stops_the_model(tmp_path: Path) -> None:
    with speaking_upstream() as upstream:
        station = upstream.station().always(pieces(delta("half"), end="stall"))
        async with talking(tmp_path, model("slow", station.url), NANO) as (_, javascript):
            number, result = javascript.stream("slow", "hi")
            await asyncio.wait_for(javascript.began[number].wait(), PATIENCE_S)
            await javascript.do("cancel", of=number)
            assert (await result)["error"]["code"] == "client_closed"
            await asyncio.to_thread(station.wait_gone)
            assert (await javascript.infer("glm-nano", "What is 1 + 2?"))["text"] == "3"


async def test_a_slow_reader_gets_all_and_holds_the_model_back(tmp_path: Path) -> None:
    with speaking_upstream() as upstream:
        station = upstream.station().always(LONG)
        async with talking(tmp_path, model("long", station.url), NANO) as (server, javascript):
            options = {"key": KEY, "window": 65_536}
            await javascript.do("open", client="c", address=address_of(server), options=options)
            number, result = javascript.stream("long", "hi", pause_ms=5)
            await asyncio.wait_for(javascript.began[number].wait(), PATIENCE_S)
            assert (await javascript.infer("glm-nano", "What is 1 + 2?"))["text"] == "3", "others are not held up"
            await asyncio.sleep(0.5)
            sent_bytes = station.seen[0].sent_bytes
            answer = await asyncio.wait_for(result, PATIENCE_S)
            assert (len(answer["text"]), set(answer["text"])) == (LONG_CHARS, set(LONG_PART))
            assert sent_bytes < 0.8 * station.seen[0].sent_bytes


async def test_a_long_request_in_fragments(tmp_path: Path) -> None:
    with speaking_upstream() as upstream:
        station = upstream.station()
        prompt = "很长的问题👋" * 100_000
        async with talking(tmp_path, model("m", station.url)) as (_, javascript):
            assert "error" not in await javascript.infer("m", prompt)
        assert station.seen[0].json["messages"][-1]["content"] == prompt


async def test_a_drain_lets_what_runs_end(tmp_path: Path) -> None:
    with speaking_upstream() as upstream:
        station = upstream.station().always(COUNTING)
        drain = {"accept": 0, "unary": 30, "stream": 30}
        async with talking(tmp_path, model("m", station.url), drain=drain) as (server, javascript):
            number, result = javascript.stream("m", "hi")
            await asyncio.wait_for(javascript.began[number].wait(), PATIENCE_S)
            server.process.send_signal(signal.SIGTERM)
            answer = await asyncio.wait_for(result, PATIENCE_S)
            assert answer["text"] == "".join(COUNTED)
            late = (await javascript.infer("m", "hi"))["error"]
            assert late["retryable"] is True
            assert late["code"] in ("server_draining", "connection_lost")


@pytest.mark.parametrize("cuts", [[3000], [800, 2000, 400, 3000], [700, 0, 100, 1500, 900]])
async def test_a_cut_stream_goes_on_where_it_was(tmp_path: Path, cuts: list[int]) -> None:
    with speaking_upstream() as upstream:
        station = upstream.station().always(COUNTING)
        async with (
            talking(tmp_path, model("m", station.url)) as (server, javascript),
            CuttingRelay(int(urlsplit(server.url).port or 0), cuts) as relay,
        ):
            await javascript.do("open", client="c", address=relay.address, options={"key": KEY})
            answer = await asyncio.wait_for(javascript.stream("m", "hi", resumable=True)[1], PATIENCE_S)
            assert (answer.get("error"), answer["text"]) == (None, "".join(COUNTED))
            await javascript.do("close", client="c")
        assert relay.broken == len(cuts)
        assert len(station.seen) == 1, "the model was asked once"


async def test_a_cut_answer_in_one_piece_is_fetched_again(tmp_path: Path) -> None:
    text = "".join(COUNTED)

    async def answer_once(wire: Wire) -> None:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        await wire.respond(json.dumps({"object": "chat.completion", "model": "m", "choices": [choice]}).encode())

    with speaking_upstream() as upstream:
        station = upstream.station().always(answer_once)
        async with (
            talking(tmp_path, model("m", station.url)) as (server, javascript),
            CuttingRelay(int(urlsplit(server.url).port or 0), [2000]) as relay,
        ):
            await javascript.do("open", client="c", address=relay.address, options={"key": KEY})
            answer = await javascript.infer("m", "hi", resumable=True)
            assert (answer.get("error"), answer["text"]) == (None, text)
            await javascript.do("close", client="c")
        assert (relay.broken, len(station.seen)) == (1, 1)


async def test_a_cut_is_told_where_nothing_is_kept(tmp_path: Path) -> None:
    with speaking_upstream() as upstream:
        station = upstream.station().then(pieces(*map(delta, COUNTED), end="stall")).always(COUNTING)
        async with (
            talking(tmp_path, model("m", station.url)) as (server, javascript),
            CuttingRelay(int(urlsplit(server.url).port or 0), [3000]) as relay,
        ):
            await javascript.do("open", client="c", address=relay.address, options={"key": KEY})
            error = (await asyncio.wait_for(javascript.stream("m", "hi")[1], PATIENCE_S))["error"]
            assert (error["code"], error["status"], error["retryable"]) == ("connection_lost", 0, True)
            assert (await javascript.stream("m", "hi")[1])["text"] == "".join(COUNTED)
            await javascript.do("close", client="c")


async def test_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(0o600)
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(tmp_path / "cert.pem", append=number > 0)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    config = {"models": [NANO], "tls": {"cert": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}}
    server = RunningServer(tmp_path, config, verify=context)
    await asyncio.to_thread(server.__enter__)
    try:
        async with JavaScript() as javascript:
            address = address_of(server, "mcps", "localhost")
            trusting = {"ca": str(tmp_path / "ca.pem"), "options": {"key": KEY}}
            await javascript.do("open", client="c", address=address, **trusting)
            assert (await javascript.infer("glm-nano", "What is 1 + 2?"))["text"] == "3"
            await javascript.do("open", client="doubting", address=address, options={"key": KEY})
            error = (await javascript.infer("glm-nano", "hi", client="doubting"))["error"]
            assert error["code"] == "connection_lost"
    finally:
        await asyncio.to_thread(server.__exit__)


async def test_the_example(tmp_path: Path) -> None:
    async with talking(tmp_path) as (server, _):
        printed = await run_node(str(EXAMPLES / "ask.mjs"), MCP_SERVER_URL=server.url, MCP_API_KEY=KEY)
    assert re.fullmatch(r"932 \(stop, \d+ tokens\)\n", printed)
