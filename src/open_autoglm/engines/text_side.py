"""Between messages and tokens: what a model is shown of a request, and what its tokens mean.

A folder's manifest names one of them: `glm-nano`, which has its tokenizer and its ways of talking in the code, or a
layout of `tokenizers_layouts` for a `tokenizer.json`.
"""

from __future__ import annotations

from typing import Final, Protocol

from open_autoglm.engines.embedded import chat
from open_autoglm.engines.embedded.abilities import TASKS, Abilities
from open_autoglm.engines.embedded.tokenizer import EOS, VOCABULARY_SIZE
from open_autoglm.engines.embedded.tokenizer import NAME as EMBEDDED_TOKENIZER
from open_autoglm.engines.events import GenerateRequest
from open_autoglm.engines.model_folder import ModelFolder
from open_autoglm.engines.step_model import Prompt

EMBEDDED: Final = "glm-nano"
TOKENIZER_FILE: Final = "tokenizer.json"


class TextSide(Protocol):
    """See the module; thread safe.

    Attributes:
        tokenizer: names the vocabulary.
        end_tokens: tokens that end an answer.
        vocabulary: tokens that it can spell; a model may have more.
    """

    @property
    def tokenizer(self) -> str: ...

    @property
    def end_tokens(self) -> frozenset[int]: ...

    @property
    def vocabulary(self) -> int: ...

    def prepare(self, request: GenerateRequest, context: int) -> Prompt:
        """See `StepModel.prepare`."""


class EmbeddedText:
    """The tokenizer and the prompts of the models that ship.

    Args:
        abilities: what the model was trained on.
    """

    tokenizer = EMBEDDED_TOKENIZER
    end_tokens = frozenset((EOS,))
    vocabulary = VOCABULARY_SIZE

    def __init__(self, abilities: Abilities) -> None:
        self._abilities = abilities

    def prepare(self, request: GenerateRequest, context: int) -> Prompt:
        """See `TextSide`."""
        return chat.prompt_of(request, self._abilities, context)


def open_text(folder: ModelFolder, name: str) -> TextSide:
    """What the manifest of a folder names.

    Raises:
        ServerError: `internal_error`, it cannot be used.
    """
    manifest = folder.manifest
    if manifest.text == EMBEDDED:
        properties = manifest.properties
        tasks, digits_max = properties.get("tasks"), properties.get("digits_max")
        if not isinstance(tasks, list) or not isinstance(digits_max, int):
            raise folder.refuse("manifest.json", "does not say tasks and digits_max of the model")
        return EmbeddedText(Abilities(name, folder.version, frozenset(tasks) & frozenset(TASKS), digits_max))
    from open_autoglm.engines.tokenizers_text import open_tokenizer

    return open_tokenizer(folder)
