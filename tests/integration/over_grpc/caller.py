"""A gRPC client as an application has it: a channel, the messages of proto/mcp.proto, generic calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from grpc import aio
from tests.integration.running import KEY, RunningServer

from open_autoglm.protocol.codecs import CODECS
from open_autoglm.protocol.grpc_messages import SERVICE, message_classes

CLASSES = message_classes()
codec = CODECS["protobuf"]
Metadata = tuple[tuple[str, str], ...]
AS_OURSELVES: Metadata = (("authorization", f"Bearer {KEY}"),)


def port_of(server: RunningServer) -> int:
    """The port that the server has told of."""
    [line] = [line for line in server.printed.splitlines() if "gRPC at port" in line]
    return int(line.split()[-1])


def request(prompt: str, model: str = "m", body: dict[str, Any] | None = None, **fields: Any) -> Any:
    """An `InferRequest`."""
    return CLASSES["InferRequest"](model=model, body=codec.encode({"prompt": prompt, **(body or {})}), **fields)


class Caller:
    """A channel; use as a context.

    Args:
        target: `host:port`.
        credentials: of TLS, when it is spoken.
        options: of the channel.
    """

    def __init__(self, target: str, credentials: Any = None, options: Sequence[tuple[str, Any]] = ()) -> None:
        quiet = [("grpc.enable_retries", 0), *options]
        if credentials is None:
            self.channel = aio.insecure_channel(target, options=quiet)
        else:
            self.channel = aio.secure_channel(target, credentials, options=quiet)
        self.infer = self.channel.unary_unary(
            f"/{SERVICE}/Infer",
            request_serializer=CLASSES["InferRequest"].SerializeToString,
            response_deserializer=CLASSES["InferResponse"].FromString,
        )
        self.infer_stream = self.channel.unary_stream(
            f"/{SERVICE}/InferStream",
            request_serializer=CLASSES["InferRequest"].SerializeToString,
            response_deserializer=CLASSES["InferPart"].FromString,
        )

    async def __aenter__(self) -> Caller:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()

    async def ask(self, prompt: str = "hi", metadata: Metadata = AS_OURSELVES, **more: Any) -> Any:
        """One answer in one piece."""
        timeout_s = more.pop("timeout_s", 20.0)
        return await self.infer(request(prompt, **more), metadata=metadata, timeout=timeout_s)

    def stream(self, prompt: str = "hi", metadata: Metadata = AS_OURSELVES, **more: Any) -> Any:
        """The call that gives an answer in parts."""
        timeout_s = more.pop("timeout_s", 20.0)
        return self.infer_stream(request(prompt, **more), metadata=metadata, timeout=timeout_s)

    async def refusal(self, call: Any) -> Refusal:
        """How a call fails."""
        try:
            if hasattr(call, "__aiter__"):
                async for _ in call:
                    pass
            else:
                await call
        except aio.AioRpcError as error:
            return Refusal(error)
        raise AssertionError("it did not fail")


class Refusal:
    """Status, details and metadata of a failed call."""

    def __init__(self, error: aio.AioRpcError) -> None:
        self.status: grpc.StatusCode = error.code()
        self.message = str(error.details())
        self.metadata: dict[str, Any] = dict(error.trailing_metadata() or ())

    @property
    def code(self) -> str:
        """Ours."""
        return str(self.metadata.get("mcp-code", ""))
