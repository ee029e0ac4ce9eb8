"""A gateway in gRPC: grpc.aio in front of grpc.aio, messages passed on as bytes.

`python -m benchmarks.framed.grpc_gateway PORT KEY NODE_PORT...`: it checks one key and asks the node with fewer
requests in flight; no limits, breaker, retries, metrics or logs.
"""

from __future__ import annotations

import sys
from typing import Any

import grpc
import uvloop

from benchmarks.framed.grpc_messages import METHOD

_, _SERVICE, _NAME = METHOD.split("/")


async def main(port: int, key: str, nodes: list[str]) -> None:
    """Serve until somebody ends the process."""
    stubs = [grpc.aio.insecure_channel(f"127.0.0.1:{node}").unary_unary(METHOD) for node in nodes]
    in_flight = [0] * len(stubs)
    wanted = ("authorization", f"Bearer {key}")

    async def infer(ask: bytes, context: Any) -> bytes:
        if wanted not in (context.invocation_metadata() or ()):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong key")
        place = in_flight.index(min(in_flight))
        in_flight[place] += 1
        try:
            told: bytes = await stubs[place](ask, timeout=context.time_remaining())
            return told
        finally:
            in_flight[place] -= 1

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(infer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {_NAME: handler}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
