"""REST in front of gRPC: aiohttp's server, JSON in and out, and grpc.aio's client to the nodes.

`python -m benchmarks.framed.rest_gateway PORT KEY NODE_PORT...`: it checks one key and asks the node with fewer
requests in flight; no limits, breaker, retries, metrics or logs.
"""

from __future__ import annotations

import asyncio
import sys

import grpc
import uvloop
from aiohttp import web

from benchmarks.framed.grpc_messages import METHOD, Ask, Told

_TIMEOUT_S = 60.0


async def main(port: int, key: str, nodes: list[str]) -> None:
    """Serve until somebody ends the process."""
    stubs = [
        grpc.aio.insecure_channel(f"127.0.0.1:{node}").unary_unary(
            METHOD, request_serializer=Ask.SerializeToString, response_deserializer=Told.FromString
        )
        for node in nodes
    ]
    in_flight = [0] * len(stubs)
    wanted = f"Bearer {key}"

    async def infer(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != wanted:
            return web.json_response({"error": {"message": "wrong key", "code": "invalid_api_key"}}, status=401)
        said = await request.json()
        place = in_flight.index(min(in_flight))
        in_flight[place] += 1
        try:
            ask = Ask(model=said["model"], prompt=said["prompt"], max_tokens=said.get("max_tokens", 0))
            told = await stubs[place](ask, timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            return web.json_response({"error": {"message": error.details()}}, status=502)
        finally:
            in_flight[place] -= 1
        usage = {"prompt_tokens": told.prompt_tokens, "completion_tokens": told.completion_tokens}
        return web.json_response(
            {"model": told.model, "text": told.text, "finish_reason": told.finish_reason, "usage": usage}
        )

    app = web.Application()
    app.router.add_post("/infer", infer)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=600)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
