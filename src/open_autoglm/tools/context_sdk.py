"""Connections to servers of the context protocol, made by the protocol's own library (the extra `context`).

With `context_transport` the only module of this package that knows the library; it is imported when the first
connection is made, in a thread, since that takes a while. Invariant: what the library raises leaves here as `ToolError`
or `LostConnectionError`. Neither sampling, elicitation nor roots are offered: a server that asks for them is refused.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from open_autoglm import __version__
from open_autoglm.telemetry.redact import clean
from open_autoglm.tools.context_client import TOOLS_MAX, ContextSession, ListedTool, LostConnectionError
from open_autoglm.tools.host_address import allowed_addresses
from open_autoglm.tools.settings import ContextServerEntry
from open_autoglm.tools.tool import Arguments, ToolError
from open_autoglm.tools.url_template import read_template

_log = logging.getLogger(__name__)

_TRANSPORT: Final = "open_autoglm.tools.context_transport"
_MODULES: Final = ("mcp", "mcp.client.streamable_http", "mcp_types", "httpx2", "anyio", _TRANSPORT)
_KEPT: Final = ("PATH", "HOME", "LANG")
_PAGES_MAX: Final = 100
_KEY_FIELD: Final = "open-autoglm/idempotency-key"
_CONNECT_S: Final = 10.0
_PROBLEM_CHARS_MAX: Final = 300
_LATER_S: Final = 1.0
"""The library's own limits of time come after those of the desk, which says what was too slow."""


@asynccontextmanager
async def connect(entry: ContextServerEntry, list_changed: Callable[[], None]) -> AsyncIterator[ContextSession]:
    """Open a connection; see `context_client.Connect`."""
    library = await _library()
    mcp, types = library["mcp"], library["mcp_types"]

    async def hear(message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            list_changed()

    child, http_client, transport = None, None, None
    if entry.url is None:
        child = _child(library, entry)
        transport = child.streams()
    else:
        await _checked(entry.url, entry)
        http_client = _http_client(library, entry)
        transport = library["mcp.client.streamable_http"].streamable_http_client(
            entry.url, http_client=http_client, max_sse_event_size=entry.message_bytes
        )
    client = mcp.Client(
        transport,
        read_timeout_seconds=entry.timeout_s + _LATER_S,
        message_handler=hear,
        client_info=types.Implementation(name="open-autoglm", version=__version__),
        cache=None,
    )
    try:
        try:
            await client.__aenter__()
        except Exception as error:
            why = child.problem if child is not None else ""
            raise ToolError("tool_unavailable", why or _told(error), retryable=True) from error
        try:
            yield _Session(client, library, child)
        finally:
            try:
                await client.__aexit__(None, None, None)
            except Exception as error:  # it is over either way
                _log.debug("context server %s: at its end: %s", entry.name, _told(error))
    finally:
        if http_client is not None:
            await http_client.aclose()


class _Session:
    """Implements `context_client.ContextSession`."""

    def __init__(self, client: Any, library: dict[str, Any], child: Any) -> None:
        self._client = client
        self._child = child
        self._failure = library["mcp"].MCPError
        self._closed_code = library["mcp_types"].CONNECTION_CLOSED
        anyio, httpx = library["anyio"], library["httpx2"]
        self._lost = (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream, httpx.HTTPError)

    async def list_tools(self) -> list[ListedTool]:
        listed: list[ListedTool] = []
        cursor = None
        for _ in range(_PAGES_MAX):
            page = await self._asked(self._client.list_tools(cursor=cursor))
            listed += [ListedTool(tool.name, tool.description or "", tool.input_schema) for tool in page.tools]
            cursor = page.next_cursor
            if cursor is None or len(listed) > TOOLS_MAX:
                break
        return listed

    async def call_tool(self, name: str, arguments: Arguments, idempotency_key: str) -> Any:
        meta = {_KEY_FIELD: idempotency_key} if idempotency_key else None
        result = await self._asked(self._client.call_tool(name, arguments, meta=meta))
        content = [part.model_dump(mode="json", by_alias=True, exclude_none=True) for part in result.content]
        texts = [part["text"] for part in content if part.get("type") == "text"]
        if result.is_error:
            raise ToolError("tool_failed", clean("\n".join(texts), keep_lines=True) or "it does not say why")
        if result.structured_content is not None:
            return result.structured_content
        return texts[0] if len(texts) == 1 and len(content) == 1 else content

    async def _asked(self, asking: Any) -> Any:
        try:
            return await asking
        except self._failure as error:
            if error.code == self._closed_code:
                why = self._child.problem if self._child is not None else ""
                raise LostConnectionError(why or error.message) from error
            raise ToolError("tool_failed", clean(error.message)) from error
        except self._lost as error:
            raise LostConnectionError(type(error).__name__) from error
        except (ValueError, RuntimeError) as error:  # its answer is not what the protocol, or its own schema, says
            raise ToolError("invalid_result", _told(error)) from error


def _child(library: dict[str, Any], entry: ContextServerEntry) -> Any:
    """A child, whose complaints nobody reads: what it writes to stderr is dropped."""
    own = {name: value.reveal() for name, value in entry.env.items()}
    if shutil.which(entry.command[0], path=own.get("PATH")) is None:
        raise ToolError("tool_unavailable", f"there is no program {entry.command[0]!r} on the PATH")
    command = [sys.executable, "-I", str(Path(__file__).with_name("context_child.py"))]
    return library[_TRANSPORT].ChildTransport(
        [*command, ",".join((*_KEPT, *own)), "--", *entry.command],
        {name: os.environ[name] for name in _KEPT if name in os.environ} | own,
        entry.cwd,
        entry.message_bytes,
    )


async def _checked(url: str, entry: ContextServerEntry) -> None:
    """Say so at once when the address may not be called; the transport looks again before each request."""
    template = read_template(url)
    await allowed_addresses(template.host, template.port, allow_private=entry.allow_private)


def _http_client(library: dict[str, Any], entry: ContextServerEntry) -> Any:
    httpx = library["httpx2"]
    return httpx.AsyncClient(
        transport=library[_TRANSPORT].http_transport(entry),
        headers={name: value.reveal() for name, value in entry.headers.items()} | {"accept-encoding": "identity"},
        timeout=httpx.Timeout(entry.timeout_s + _LATER_S, connect=min(_CONNECT_S, entry.timeout_s)),
        trust_env=False,
    )


async def _library() -> dict[str, Any]:
    logging.getLogger("mcp").setLevel(logging.WARNING)  # it tells of each step that it takes
    try:
        return await asyncio.to_thread(lambda: {name: importlib.import_module(name) for name in _MODULES})
    except ImportError as error:
        raise ToolError("tool_unavailable", "needs the extra `context`: pip install 'open-autoglm[context]'") from error


def _told(error: BaseException) -> str:
    """What to say of an exception, the first one of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return clean(str(error))[:_PROBLEM_CHARS_MAX] or type(error).__name__
