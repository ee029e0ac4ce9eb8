"""What clients of the context protocol are offered: tools that are named, pages, and prompts that are filled."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.errors import RequestError, ServerError
from open_autoglm.server.context_offer import FILE_BYTES_MAX, ContextOffer, Page
from open_autoglm.tools.desk import ToolDesk
from open_autoglm.tools.offer_settings import (
    ContextSettings,
    OfferedPrompt,
    OfferedResource,
    PromptArgument,
    PromptMessage,
)
from open_autoglm.tools.tool import ToolError, ToolKind


class Lookup:
    """A tool that answers with what it was asked."""

    description = "looks up"
    schema: dict[str, Any] = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
    kind: ToolKind = "read"
    timeout_s = 10.0
    cost = 0.0

    def __init__(self, name: str) -> None:
        self.name = name
        self.keys: list[str] = []

    async def call(self, arguments: dict[str, Any], *, deadline_s: float, idempotency_key: str) -> Any:
        self.keys.append(idempotency_key)
        return {"found": arguments["id"], "key": "sk-abcdef1234567890"}


def offer_of(**settings: Any) -> ContextOffer:
    tools = ToolDesk([Lookup("one"), Lookup("other")])

    async def desk() -> ToolDesk:
        return tools

    return ContextOffer(ContextSettings(**settings), desk)


async def nothing(uri: str) -> Page:
    raise KeyError(uri)


async def test_only_what_is_named_is_listed_and_called() -> None:
    offer = offer_of(tools=["one", "away.tool"])
    assert [tool.name for tool in await offer.tools()] == ["one"]
    assert (await offer.call("one", {"id": "7"}, "key-1"))["found"] == "7"
    with pytest.raises(ToolError) as caught:
        await offer.call("other", {"id": "7"}, "")
    assert caught.value.code == "tool_not_allowed"
    with pytest.raises(ToolError, match="id"):
        await offer.call("one", {}, "")


async def test_who_offers_nothing_opens_no_tool() -> None:
    async def desk() -> ToolDesk:
        raise AssertionError("nobody wants it")

    offer = ContextOffer(ContextSettings(), desk)
    assert (await offer.tools(), offer.is_wanted) == ([], False)
    with pytest.raises(KeyError):
        await offer.read("docs://x")


async def test_the_page_of_a_tool_is_its_answer_to_what_stands_in_the_address() -> None:
    offer = offer_of(resources=[OfferedResource("crm://customers/{id}/card", tool="other")])
    page = await offer.read("crm://customers/a%20b/card")
    assert page.media_type == "application/json"
    assert page.text is not None
    assert '"found":"a b"' in page.text
    assert "abcdef" not in page.text
    for uri in (
        "crm://customers//card",
        "crm://customers/a/b/card",
        "crm://customers/a/card/",
        "xcrm://customers/a/card",
    ):
        with pytest.raises(KeyError):
            await offer.read(uri)


async def test_a_drawing_that_is_text_leaves_without_keys(tmp_path: Path) -> None:
    drawing = tmp_path / "plan.svg"
    drawing.write_text("<svg><!-- Bearer abcdef123456 --></svg>")
    offer = offer_of(resources=[OfferedResource("docs://plan", file=str(drawing))])
    page = await offer.read("docs://plan")
    assert page.media_type == "image/svg+xml"
    assert page.text is not None
    assert page.text.startswith("<svg>")
    assert "abcdef" not in page.text


async def test_pages_of_files_are_read_anew_and_have_an_end(tmp_path: Path) -> None:
    note, picture = tmp_path / "note.md", tmp_path / "picture.png"
    offer = offer_of(
        resources=[OfferedResource("docs://note", file=str(note)), OfferedResource("docs://p", file=str(picture))]
    )
    note.write_text("first")
    assert (await offer.read("docs://note")).text == "first"
    note.write_text("second, with Bearer abcdef123456")
    page = await offer.read("docs://note")
    assert (page.media_type, page.text and page.text.startswith("second")) == ("text/markdown", True)
    assert "abcdef" not in str(page.text)
    note.write_bytes(b"\xff\xfe")
    assert (await offer.read("docs://note")).data == b"\xff\xfe"
    picture.write_bytes(b"plain")
    assert await offer.read("docs://p") == Page("docs://p", "image/png", data=b"plain")
    note.write_bytes(b"x" * (FILE_BYTES_MAX + 1))
    with pytest.raises(ServerError, match="longer than"):
        await offer.read("docs://note")
    note.unlink()
    with pytest.raises(ServerError, match="cannot be read") as caught:
        await offer.read("docs://note")
    assert str(tmp_path) not in caught.value.message


def review(*messages: PromptMessage) -> OfferedPrompt:
    arguments = {"code": PromptArgument(), "tone": PromptArgument(required=False, values=["kind", "strict"])}
    return OfferedPrompt("review", list(messages), arguments=arguments)


async def test_a_prompt_is_filled_and_its_pages_are_there() -> None:
    offer = offer_of(
        prompts=[review(PromptMessage(resource="docs://{code}"), PromptMessage("assistant", "Tone: {tone}."))]
    )

    async def read(uri: str) -> Page:
        return Page(uri, "text/plain", "the page")

    filled = await offer.prompt("review", {"code": "x"}, read)
    assert filled == [("user", Page("docs://x", "text/plain", "the page")), ("assistant", "Tone: .")]
    assert offer.proposals("review", "tone") == ["kind", "strict"]
    for given_arguments, words in (({}, "needs the argument 'code'"), ({"code": "", "more": ""}, "no argument 'more'")):
        with pytest.raises(RequestError, match=words):
            await offer.prompt("review", given_arguments, read)
    for name, arguments in (("none", {}), ("review", {"code": "x"})):
        with pytest.raises(KeyError):
            await offer.prompt(name, arguments, nothing)


@given(st.text(max_size=40), st.text(max_size=40), st.text(alphabet="{}codetn ", max_size=40))
def test_arguments_stand_where_they_belong_and_are_never_read_as_places(code: str, tone: str, text: str) -> None:
    offer = offer_of(prompts=[review(PromptMessage(text=f"{text}|{{code}}|{{tone}}"))])
    [(_, said)] = asyncio.run(offer.prompt("review", {"code": code, "tone": tone}, nothing))
    assert isinstance(said, str)
    assert said.endswith(f"|{code}|{tone}")


async def test_a_prompt_does_not_grow_without_end() -> None:
    offer = offer_of(prompts=[review(PromptMessage(text="{code}" * 100))])
    with pytest.raises(RequestError, match="characters"):
        await offer.prompt("review", {"code": "x" * 100_000}, nothing)
