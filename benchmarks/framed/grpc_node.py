"""The engine of `autoglm node --model echo=echo:` behind grpc.aio: `python -m benchmarks.framed.grpc_node PORT`."""

from __future__ import annotations

import sys
from typing import Any

import grpc
import uvloop

from benchmarks.framed.grpc_messages import METHOD, Ask, Told
from open_autoglm.engines.echo import EchoEngine
from open_autoglm.engines.events import Finish, GenerateEvent, GenerateRequest, TextDelta, Usage

_, _SERVICE, _NAME = METHOD.split("/")


async def main(port: int) -> None:
    """Serve until somebody ends the process."""
    engine = EchoEngine()

    async def infer(ask: Any, context: Any) -> Any:
        told = Told(model=ask.model)

        def deliver(events: list[GenerateEvent]) -> None:
            for event in events:
                match event:
                    case TextDelta(text):
                        told.text += text
                    case Finish(reason):
                        told.finish_reason = reason
                    case Usage():
                        told.prompt_tokens, told.completion_tokens = event.prompt_tokens, event.completion_tokens
                        told.version = event.version

        engine.submit(GenerateRequest([{"role": "user", "content": ask.prompt}], max_tokens=ask.max_tokens), deliver)
        return told

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        infer, request_deserializer=Ask.FromString, response_serializer=Told.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {_NAME: handler}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
