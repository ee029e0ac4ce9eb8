"""What clients of the context protocol are offered at `/context`, beside the server's own few tools and pages."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

OWN_TOOLS: Final = ("list_models", "ask_model", "server_status", "list_runs", "show_run")
"""Names that the server's own tools have there."""
OWN_SCHEME: Final = "autoglm"
"""Begins the addresses of the server's own pages."""


class OfferedResource(Struct, frozen=True, forbid_unknown_fields=True):
    """A page that clients may read: a file, or what a tool answers.

    Attributes:
        uri: its address, as `docs://runbook`; of a tool's page with places for arguments, as `crm://customers/{id}`.
        file: path of a file, at most 4 MiB; it is read anew each time.
        tool: name of a tool of class `read`, instead of `file`. It is given what stands at the places, as texts.
        name: for people; the address when left out.
        description: for models and people.
        media_type: as `text/markdown`; guessed when left out.
    """

    uri: str
    file: str | None = None
    tool: str | None = None
    name: str = ""
    description: str = ""
    media_type: str | None = None


class PromptArgument(Struct, frozen=True, forbid_unknown_fields=True):
    """One argument of a prompt, a text.

    Attributes:
        description: for people.
        required: whether it must be given; what is left out is empty.
        values: proposed while somebody types; others are allowed.
    """

    description: str = ""
    required: bool = True
    values: list[str] = []


class PromptMessage(Struct, frozen=True, forbid_unknown_fields=True):
    """One message of a prompt: a text, or a page.

    Attributes:
        role: who says it.
        text: what is said; `{argument}` stands for an argument, other braces for themselves.
        resource: address of a page of the server's own or of `context.resources`, instead of `text`; `{argument}`
            stands for an argument. Pictures and sounds are given as such.
    """

    role: Literal["user", "assistant"] = "user"
    text: str | None = None
    resource: str | None = None


class OfferedPrompt(Struct, frozen=True, forbid_unknown_fields=True):
    """A prompt that people can choose in their client, where it is mostly a command.

    Attributes:
        name: of the prompt.
        messages: what it says.
        description: for people.
        arguments: by name.
    """

    name: str
    messages: list[PromptMessage]
    description: str = ""
    arguments: dict[str, PromptArgument] = {}


class ContextSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What clients of the context protocol are offered at `/context` of the admin listener, beside its own tools.

    Attributes:
        tools: names of tools of `tools`, as `calculator` or `files.read_text_file`; none when left out.
        writes: whether tools of class `write` may be among them; without it only those of class `read`. Dangerous ones
            are never offered, since nobody is there to agree.
        resources: pages that they may read.
        prompts: that their users can choose.
    """

    tools: list[str] = []
    writes: bool = False
    resources: list[OfferedResource] = []
    prompts: list[OfferedPrompt] = []
