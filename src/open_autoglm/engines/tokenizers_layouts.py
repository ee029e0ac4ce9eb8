"""How families of models write a conversation down, as tables instead of the templates that come with models.

A template of a model's folder is a program that somebody else wrote; these are data. A part that begins with `<` or `[`
is one special token, every other part is text, in which `{role}` and `{content}` are filled in. Text of a client is
never read as a special token. Source: the chat templates published with the models of each family.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

ROLES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
"""Of messages, and what a model is told."""


class Layout(Struct, frozen=True):
    """One way to write a conversation.

    Attributes:
        opening: parts before the first message.
        message: parts of each message.
        answer: parts after the last one; the model's words follow.
        ends: tokens that end an answer, beside those of `config.json`, where the tokenizer has them.
    """

    opening: tuple[str, ...]
    message: tuple[str, ...]
    answer: tuple[str, ...]
    ends: tuple[str, ...]


LAYOUTS: Final[dict[str, Layout]] = {
    "glm": Layout(
        ("[gMASK]", "<sop>"),
        ("<|{role}|>", "\n{content}"),
        ("<|assistant|>", "\n"),
        ("<|endoftext|>", "<|user|>", "<|observation|>"),
    ),
    "llama3": Layout(
        ("<|begin_of_text|>",),
        ("<|start_header_id|>", "{role}", "<|end_header_id|>", "\n\n{content}", "<|eot_id|>"),
        ("<|start_header_id|>", "assistant", "<|end_header_id|>", "\n\n"),
        ("<|eot_id|>", "<|end_of_text|>"),
    ),
    "chatml": Layout(
        (),
        ("<|im_start|>", "{role}\n{content}", "<|im_end|>", "\n"),
        ("<|im_start|>", "assistant\n"),
        ("<|im_end|>", "<|endoftext|>"),
    ),
    "plain": Layout((), ("{content}\n",), (), ("<eos>", "</s>", "<|endoftext|>")),
}
"""By name; `plain` is for models that were not taught to talk in turns."""


def is_special(part: str) -> bool:
    """Whether a part of a layout is one token."""
    return part[:1] in ("<", "[")


def written(layout: Layout, messages: list[tuple[str, str]]) -> list[str | tuple[str]]:
    """A conversation as special tokens, each a tuple of its name, and texts between them.

    Args:
        layout: how.
        messages: role, as told to the model, and content.
    """
    parts: list[str | tuple[str]] = []

    def add(templates: tuple[str, ...], role: str = "", content: str = "") -> None:
        for template in templates:
            if is_special(template):
                parts.append((template.format(role=role),))
            elif parts and isinstance(parts[-1], str):
                parts[-1] += template.format(role=role, content=content)
            else:
                parts.append(template.format(role=role, content=content))

    add(layout.opening)
    for role, content in messages:
        add(layout.message, role, content)
    add(layout.answer)
    return parts


def specials_of(layout: Layout) -> set[str]:
    """Every special token that a tokenizer must have to be used with a layout."""
    roles = set(ROLES.values())
    templates = (*layout.opening, *layout.message, *layout.answer)
    return {part.format(role=role) for part in templates if is_special(part) for role in roles}
