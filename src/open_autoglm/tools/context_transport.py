"""How messages of the context protocol get to a server and back, bounded: over a child's pipes, or over HTTP.

The protocol's library has transports of its own; the one for children takes a line however long it is, and the one
for HTTP connects to whatever a name leads to. Imports the library, so it is imported with it (`context_sdk`).
Invariants: no message is longer than the configuration allows; a child is given time to go, then it is killed with all
that it has started; each HTTP request goes to an address that was looked at.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import anyio
import httpx2
import mcp_types as types
from mcp.shared.message import SessionMessage

from open_autoglm.tools.host_address import allowed_addresses
from open_autoglm.tools.settings import ContextServerEntry
from open_autoglm.tools.tool import ToolError
from open_autoglm.transport.settings import TlsClientFiles
from open_autoglm.transport.tls import upstream_context

_FLUSH_S: Final = 0.5
_GO_S: Final = 2.0
"""Given to a child after its input was closed, and again after it was told to end."""
_DRAIN_BYTES: Final = 64 * 2**10
_PORTS: Final = {"http": 80, "https": 443}


class ChildTransport:
    """A child and its pipes, a line for each message.

    Lines that are no message are dropped: programs that print something of their own are many.

    Args:
        command: program and arguments.
        env: all its variables.
        cwd: its working directory.
        message_bytes: longest line.

    Attributes:
        problem: why the connection has ended; empty while it has not.
    """

    def __init__(self, command: list[str], env: dict[str, str], cwd: str | None, message_bytes: int) -> None:
        self.problem = ""
        self._command = command
        self._env = env
        self._cwd = cwd
        self._message_bytes = message_bytes

    @asynccontextmanager
    async def streams(self) -> AsyncIterator[Any]:
        """Start it; gives the streams that the library reads and writes. Leaving ends the child.

        Raises:
            OSError: it cannot be started.
        """
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=self._env,
            cwd=self._cwd,
            start_new_session=True,
            limit=self._message_bytes,
        )
        into, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        write, out_of = anyio.create_memory_object_stream[SessionMessage](0)
        reading = asyncio.create_task(self._read(process, into))
        writing = asyncio.create_task(self._write(process, out_of, into))
        try:
            yield read, write
        finally:
            write.close()
            read.close()
            ending = asyncio.create_task(_finish(process, reading, writing))
            with anyio.CancelScope(shield=True):  # the library's scopes cancel again at each wait; this one ends
                try:
                    await asyncio.shield(ending)
                except asyncio.CancelledError:
                    await asyncio.wait([ending])  # a child is never left behind by somebody's hurry
                    raise
                finally:
                    into.close()
                    out_of.close()

    async def _read(self, process: asyncio.subprocess.Process, into: Any) -> None:
        assert process.stdout is not None
        with into, suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            while True:
                try:
                    line = await process.stdout.readline()
                except ValueError:
                    self.problem = f"it sent a message longer than {self._message_bytes} bytes, and was ended"
                    _signal(process, signal.SIGKILL)
                    return
                if not line:
                    self.problem = "it has ended"
                    return
                try:
                    message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
                except ValueError:
                    await asyncio.sleep(0)  # one that sends nothing else must not keep the loop
                    continue
                await into.send(SessionMessage(message))

    async def _write(self, process: asyncio.subprocess.Process, out_of: Any, into: Any) -> None:
        assert process.stdin is not None
        try:
            async for asked in out_of:
                process.stdin.write(asked.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
                await process.stdin.drain()
        except OSError:
            into.close()  # whoever waits for an answer learns that there will be none


async def _finish(
    process: asyncio.subprocess.Process, reading: asyncio.Task[None], writing: asyncio.Task[None]
) -> None:
    """End what serves a child, and the child."""
    await asyncio.wait([writing], timeout=_FLUSH_S)  # what was accepted is still to be sent
    for task in (reading, writing):
        task.cancel()
    await asyncio.wait([reading, writing])
    await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Close its input, wait, tell it to end, wait, kill it; in any case kill what it leaves behind."""
    assert process.stdin is not None
    process.stdin.close()
    draining = asyncio.create_task(_drain(process))  # one that is stuck in writing would not notice
    try:
        for number in (signal.SIGTERM, signal.SIGKILL, None):
            with suppress(TimeoutError):
                async with asyncio.timeout(_GO_S):
                    await process.wait()
                return
            if number is not None:
                _signal(process, number)
    finally:
        _signal(process, signal.SIGKILL)
        await asyncio.wait([draining], timeout=_GO_S)  # nobody holds its pipe any more, so that ours is closed, too
        draining.cancel()
        await asyncio.wait([draining])


async def _drain(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    while await process.stdout.read(_DRAIN_BYTES):
        pass


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Signal the child and all that it has started: it leads a group of its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def http_transport(entry: ContextServerEntry) -> httpx2.AsyncBaseTransport:
    """Carries requests to the server, for a client of the library."""
    return _CheckedTransport(entry)


class _CheckedTransport(httpx2.AsyncBaseTransport):
    """Connects to checked addresses, whatever the name of the host leads to later, and bounds answers that are whole.

    Events of a stream are bounded by the library, to which `context_sdk` tells the bound.
    """

    def __init__(self, entry: ContextServerEntry) -> None:
        self._entry = entry
        self._inner = httpx2.AsyncHTTPTransport(verify=upstream_context(TlsClientFiles()), trust_env=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        port = url.port or _PORTS[url.scheme]
        try:
            addresses = await allowed_addresses(url.host, port, allow_private=self._entry.allow_private)
        except ToolError as error:
            raise httpx2.ConnectError(error.message) from error
        response = await self._asked(request, addresses)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise httpx2.DecodingError("the answer is packed, which was not asked for")
        if response.headers.get("content-type", "").partition(";")[0].strip().lower() != "text/event-stream":
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            response.stream = _BoundedStream(response.stream, self._entry.message_bytes)
        return response

    async def _asked(self, request: httpx2.Request, addresses: list[str]) -> httpx2.Response:
        """Ask at the first address where somebody listens; all together have the time for a connection."""
        times = request.extensions.get("timeout", {})
        if times.get("connect"):
            times = {**times, "connect": times["connect"] / len(addresses)}
        for left, address in zip(range(len(addresses) - 1, -1, -1), addresses, strict=True):
            try:
                return await self._inner.handle_async_request(
                    httpx2.Request(
                        request.method,
                        request.url.copy_with(host=address),
                        headers=request.headers,  # `host` is among them, with the name
                        stream=request.stream,
                        extensions={**request.extensions, "sni_hostname": request.url.host, "timeout": times},
                    )
                )
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                if not left:
                    raise
        raise AssertionError("a host has an address")

    async def aclose(self) -> None:
        await self._inner.aclose()


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, bytes_max: int) -> None:
        self._inner = inner
        self._bytes_max = bytes_max

    async def __aiter__(self) -> AsyncIterator[bytes]:
        count = 0
        async for chunk in self._inner:
            count += len(chunk)
            if count > self._bytes_max:
                raise httpx2.ReadError(f"it sent a message longer than {self._bytes_max} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()
