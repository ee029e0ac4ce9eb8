"""What the configuration offers to clients of the context protocol: some of its tools, pages, and prompts.

Invariants: a tool is called only if it is named there, and through the desk, so that what is asked is checked, bounded
and timed as everywhere; a page is a file that is named there, or the answer of a tool that is; what looks like a key
leaves in no text.
"""

from __future__ import annotations

import asyncio
import logging
import mimetypes
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from msgspec import Struct

from open_autoglm import clock
from open_autoglm.errors import RequestError, ServerError
from open_autoglm.telemetry.redact import clean, redact
from open_autoglm.tools.desk import ToolDesk
from open_autoglm.tools.offer_settings import ContextSettings, OfferedPrompt, OfferedResource
from open_autoglm.tools.tool import Tool, ToolCall

_log = logging.getLogger(__name__)

FILE_BYTES_MAX: Final = 4 * 2**20
CALL_S_MAX: Final = 600.0
PROMPT_CHARS_MAX: Final = 1_000_000
_PLACE: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]{0,63})\}")
_NO_TEXT: Final = ("image/", "audio/", "video/")


class Page(Struct, frozen=True):
    """What stands at an address.

    Attributes:
        uri: the address.
        media_type: of the content.
        text: the content, where it is text.
        data: the content, where it is not.
    """

    uri: str
    media_type: str
    text: str | None = None
    data: bytes = b""


ReadPage = Callable[[str], Awaitable[Page]]
"""Raises `KeyError`: there is no such page."""


class ContextOffer:
    """See the module.

    Args:
        settings: what is offered.
        desk: opens, when it is first wanted, the desk where the tools are called.
    """

    def __init__(self, settings: ContextSettings, desk: Callable[[], Awaitable[ToolDesk]]) -> None:
        self.settings = settings
        self._desk = desk
        self._prompts = {prompt.name: prompt for prompt in settings.prompts}
        self._addresses = [(_pattern(resource.uri), resource) for resource in settings.resources]

    @property
    def is_wanted(self) -> bool:
        """Whether anything is offered."""
        return self.settings != ContextSettings()

    async def tools(self) -> list[Tool]:
        """Those that are there now; a server of the context protocol may be away.

        Raises:
            AutoGLMError: the tools cannot be opened.
        """
        return (await self._desk()).tools(self.settings.tools) if self.settings.tools else []

    async def call(self, name: str, arguments: dict[str, Any], idempotency_key: str) -> Any:
        """Call a tool that is offered; see `ToolDesk.call`.

        Raises:
            AutoGLMError: the tools cannot be opened.
            ToolError: it did not work.
        """
        return await self._called(name, arguments, idempotency_key, self.settings.tools)

    async def read(self, uri: str) -> Page:
        """Return a page.

        Raises:
            KeyError: there is none.
            AutoGLMError: it cannot be had now.
            ToolError: the tool behind it failed.
        """
        for pattern, resource in self._addresses:
            found = pattern.fullmatch(uri)
            if found is not None and resource.file is not None:
                return await asyncio.to_thread(_file, uri, resource.file, resource.media_type)
            if found is not None and resource.tool is not None:
                arguments = {name: unquote(value) for name, value in found.groupdict().items()}
                return _answer(uri, await self._called(resource.tool, arguments, "", [resource.tool]), resource)
        raise KeyError(uri)

    async def prompt(self, name: str, given: dict[str, str], read: ReadPage) -> list[tuple[str, str | Page]]:
        """Fill a prompt; return its messages: who says it, and what.

        Args:
            name: of the prompt.
            given: arguments.
            read: gets pages.

        Raises:
            KeyError: there is no such prompt, or a page that it needs.
            RequestError: `invalid_request`, the arguments do not fit.
        """
        prompt = self._prompts[name]
        arguments = _fitting(prompt, given)
        messages: list[tuple[str, str | Page]] = []
        for message in prompt.messages:
            if message.resource is not None:
                messages.append((message.role, await read(_filled(message.resource, arguments))))
            else:
                messages.append((message.role, _filled(message.text or "", arguments)))
        return messages

    def proposals(self, prompt: str, argument: str) -> list[str]:
        """Values for an argument of a prompt.

        Raises:
            KeyError: there is no such prompt, or argument.
        """
        return self._prompts[prompt].arguments[argument].values

    async def _called(self, name: str, arguments: dict[str, Any], key: str, allowed: list[str]) -> Any:
        desk = await self._desk()
        call = ToolCall(name, arguments, clock.monotonic() + CALL_S_MAX, key)
        return await desk.call(call, allowed=allowed, observe=_tell)


def _tell(event: dict[str, Any]) -> None:
    _log.info("a client of the context protocol called %(tool)s: %(outcome)s, %(ms)g ms, cost %(cost)g", event)


def _fitting(prompt: OfferedPrompt, given: dict[str, str]) -> dict[str, str]:
    """All arguments of a prompt; what was left out is empty."""
    for name in given:
        if name not in prompt.arguments:
            raise RequestError("invalid_request", f"{prompt.name!r} has no argument {clean(name)[:64]!r}")
    for name, argument in prompt.arguments.items():
        if argument.required and name not in given:
            raise RequestError("invalid_request", f"{prompt.name!r} needs the argument {name!r}")
    return dict.fromkeys(prompt.arguments, "") | given


def _filled(text: str, arguments: dict[str, str]) -> str:
    wanted = sum(len(arguments.get(name, "")) for name in _PLACE.findall(text))
    if wanted > PROMPT_CHARS_MAX:
        raise RequestError("invalid_request", f"the arguments would fill more than {PROMPT_CHARS_MAX} characters")
    return _PLACE.sub(lambda place: arguments.get(place[1], place[0]), text)


def _pattern(uri: str) -> re.Pattern[str]:
    """Matches the addresses of a page; a place stands for one part between slashes."""
    parts = _PLACE.split(uri)
    return re.compile(
        "".join(f"(?P<{part}>[^/?#]+)" if number % 2 else re.escape(part) for number, part in enumerate(parts))
    )


def _answer(uri: str, answer: Any, resource: OfferedResource) -> Page:
    """What a tool has answered, as a page."""
    if isinstance(answer, str):
        return Page(uri, resource.media_type or "text/plain", answer)
    return Page(uri, resource.media_type or "application/json", msgspec.json.encode(answer).decode())


def _file(uri: str, path: str, media_type: str | None) -> Page:
    kind = media_type or mimetypes.guess_type(path)[0]
    try:
        if not Path(path).is_file():
            raise OSError("no file")
        with Path(path).open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        _log.warning("the page %s cannot be read: %s", uri, error)
        raise ServerError("internal_error", f"the page {uri!r} cannot be read; the server's log says why") from error
    if len(data) > FILE_BYTES_MAX:
        raise ServerError("internal_error", f"the file of {uri!r} is longer than {FILE_BYTES_MAX} bytes")
    if kind is None or not kind.startswith(_NO_TEXT) or kind.endswith("+xml"):
        try:
            return Page(uri, kind or "text/plain", redact(data.decode()))
        except UnicodeDecodeError:
            pass
    return Page(uri, kind or "application/octet-stream", data=data)
