"""Half of what it can do, for a long time: does memory grow, do descriptors, do tables?

Usage: `python -m benchmarks.reliability.soak [--minutes 30]`. wrk sends answers, streams, errors and unknown models
over 20,000 sessions and 20,000 model names at half of the rate that the same mix reaches unthrottled; beside it a
client that leaves before its answers are over, and an upstream that fails one time in five. The server has core 0, the
rest core 1. Prints JSON; *slope* is that of a straight line through resident memory over requests, after the first
sixth of the time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.reliability.client import Client, Question
from benchmarks.reliability.gateway import KEY, Gateway, running_gateway
from benchmarks.reliability.load import Load, summary
from benchmarks.reliability.station import Station, answer_text
from benchmarks.rig.process import free_ports
from open_autoglm.testing.reply import Asked, Manner, Reply

HERE = Path(__file__).parent
NAMES = 20_000
CONNECTIONS = 256
LEAVING_RATE = 20.0
SAMPLE_S = 10.0
CALIBRATE_S = 15
LOAD_CORE, GATEWAY_CORE = "1", "0"
_STRAY_S = 30.0


class Lines:
    """A line that keeps what a scripted reply writes."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.data += data

    def close(self) -> None:
        """Nothing to close."""

    def reset(self) -> None:
        """Nothing to reset."""


def stream_bytes() -> bytes:
    """The events of one scripted stream, without HTTP's framing."""
    body = {"model": "talk", "stream": True, "messages": [{"role": "user", "content": "soak"}]}
    reply = Reply(Asked("soak", "/v1/chat/completions", {}, body, 0.0), Lines(), Manner(pace_s=0.0))
    events = [reply.piece({"role": "assistant", "content": ""}), *(reply.piece({"content": t}) for t in reply.tokens)]
    return b"".join(b"data: " + json.dumps(e).encode() + b"\n\n" for e in [*events, reply.piece({}, "stop")]) + (
        b"data: [DONE]\n\n"
    )


def nginx_config(folder: Path, port: int) -> str:
    """The upstream's configuration, filled in."""
    body = {"model": "chat", "messages": [{"role": "user", "content": "soak"}]}
    answer = Reply(Asked("soak", "/v1/chat/completions", {}, body, 0.0), Lines(), Manner(pace_s=0.0)).body().decode()
    text = (HERE / "soak-nginx.conf").read_text()
    quoted = json.dumps(json.loads(answer)).replace("\\", "\\\\").replace("'", "\\'")
    for name, value in {"@DIR@": str(folder), "@PORT@": str(port), "@ANSWER@": quoted}.items():
        text = text.replace(name, value)
    return text


async def wrk(port: int, seconds: float, pause_ms: int, seed: int) -> dict[str, Any]:
    """Run wrk for so long and return what it counted."""
    argv = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{int(seconds)}s", "--timeout=20s"]
    argv += ["-s", str(HERE / "soak.lua"), f"http://127.0.0.1:{port}", "--", KEY, str(pause_ms), str(NAMES), str(seed)]
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), seconds + _STRAY_S)
    finally:
        if process.returncode is None:
            process.kill()
    lines = [line for line in out.decode().splitlines() if line.startswith("{")]
    counted: dict[str, Any] = json.loads(lines[-1])
    return counted


async def calibrate(port: int) -> tuple[float, int]:
    """Return the rate that the mix reaches unthrottled, and the pause between two requests for half of it."""
    free = await wrk(port, CALIBRATE_S, 0, 1)
    capacity = free["requests"] / (free["duration_us"] / 1e6)
    pause_ms = 2000.0 * CONNECTIONS / capacity
    for seed in (2, 3, 4):
        seen = await wrk(port, CALIBRATE_S, round(pause_ms), seed)
        rate = seen["requests"] / (seen["duration_us"] / 1e6)
        pause_ms = max(1.0, pause_ms + 1000.0 * CONNECTIONS * (2 / capacity - 1 / rate))
    return capacity, round(pause_ms)


async def sample(gateway: Gateway, samples: list[dict[str, float]]) -> None:
    """Look at the server now and then."""
    while True:
        figures = gateway.metrics()
        samples.append(
            {
                "at_s": time.monotonic(),
                "requests": sum(v for name, v in figures.items() if name.startswith("mcp_requests_total")),
                "rss_bytes": float(gateway.rss_bytes()),
                "descriptors": float(gateway.descriptors()),
                "series": float(len(figures)),
            }
        )
        await asyncio.sleep(SAMPLE_S)


def slope_bytes(samples: list[dict[str, float]]) -> float:
    """Bytes of resident memory for each request, by least squares."""
    count = len(samples)
    x = [s["requests"] for s in samples]
    y = [s["rss_bytes"] for s in samples]
    mean_x, mean_y = sum(x) / count, sum(y) / count
    spread = sum((value - mean_x) ** 2 for value in x)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread if spread else 0.0


async def measure(minutes: float) -> dict[str, Any]:
    """Run the soak; see the module."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (port,) = free_ports(1)
        (folder / "nginx.conf").write_text(nginx_config(folder, port))
        (folder / "talk.sse").write_bytes(stream_bytes())
        nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin") or "nginx"
        upstream = await asyncio.create_subprocess_exec(
            *("taskset", "-c", LOAD_CORE, nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"))
        )
        stack.callback(upstream.kill)
        slow = await stack.enter_async_context(Station(pace_s=0.02))
        slow.usual("error-500", share=0.2)
        base = f"http://127.0.0.1:{port}"
        models = [{"name": name, "endpoint": f"{base}/{name}/v1"} for name in ("chat", "talk", "broken")]
        models.append({"name": "slow", "endpoint": slow.url})
        config = {"models": models, "routing": {"strategy": "consistent_hash"}}
        gateway = stack.enter_context(running_gateway(folder, config, prefix=("taskset", "-c", GATEWAY_CORE)))
        capacity, pause_ms = await calibrate(gateway.port)
        samples: list[dict[str, float]] = []
        sampling = asyncio.create_task(sample(gateway, samples))
        client = Client("127.0.0.1", gateway.port, answer_text)

        def make(rng: random.Random, number: int) -> Question:
            leave_after_s = rng.uniform(0.02, 1.0) if rng.random() < 0.7 else None
            return Question(f"q {number}", "slow", KEY, stream=rng.random() < 0.7, leave_after_s=leave_after_s)

        load = Load(client, LEAVING_RATE, make, 1)
        beside = asyncio.create_task(load.run(minutes * 60))
        before = samples[0]["requests"] if samples else 0.0
        counted = await wrk(gateway.port, minutes * 60, pause_ms, 5)
        await beside
        sampling.cancel()
        client.close()
        settled = samples[len(samples) // 6 :]
        return {
            "minutes": minutes,
            "capacity_per_s": round(capacity),
            "rate_per_s": round(counted["requests"] / (counted["duration_us"] / 1e6)),
            "requests": samples[-1]["requests"] - before,
            "wrk": counted,
            "leaving_clients": summary(load.outcomes),
            "slope_mib_per_100k": round(slope_bytes(settled) * 1e5 / 2**20, 4),
            "first": settled[0],
            "last": settled[-1],
            "samples": [
                [round(s["requests"]), round(s["rss_bytes"] / 2**20, 2)] for s in samples[:: max(1, len(samples) // 30)]
            ],
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    print(json.dumps(uvloop.run(measure(parser.parse_args().minutes)), indent=1, ensure_ascii=False), file=sys.stdout)


if __name__ == "__main__":
    main()
