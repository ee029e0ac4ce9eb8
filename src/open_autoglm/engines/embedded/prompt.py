"""The one layout of tokens that the embedded models were trained on.

    [gMASK] <sop> ( <|system|> WORD )? <|user|> TEXT <|assistant|>      then the model writes
    ( <think> columns </think> )? ANSWER <eos>

WORD chooses the task: `tools`, `intent`, `plan` or `result`; without it the model answers sums and talk.
The training data and the chat adapter both build prompts here, so that they cannot drift apart.
"""

from __future__ import annotations

from typing import Final, Literal

from open_autoglm.engines.embedded import tokenizer

SystemWord = Literal["tools", "intent", "plan", "result"]

SYSTEM_WORDS: Final[tuple[SystemWord, ...]] = ("tools", "intent", "plan", "result")


def build(text: str, system: SystemWord | None = None) -> list[int]:
    """Token ids of a prompt that asks `text`; the model's answer follows directly."""
    ids = [tokenizer.GMASK, tokenizer.SOP]
    if system is not None:
        ids += [tokenizer.SYSTEM, tokenizer.token_id(system)]
    return [*ids, tokenizer.USER, *tokenizer.encode(text), tokenizer.ASSISTANT]
