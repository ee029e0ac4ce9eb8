"""What an embedded model was trained to do, as its manifest says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TASKS: Final = ("arithmetic", "chat", "tools", "intent", "plan", "result")
TOOL_NAMES: Final = frozenset(("calculator", "weather", "convert"))
"""Tools that a model with the task `tools` can call: the only names it has ever seen."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """Name and training of a model.

    Attributes:
        name: the model's name, as `glm-nano`.
        version: version of the weights.
        tasks: what it was trained on, out of `TASKS`.
        digits_max: most digits of a number in a sum; longer ones go to the calculator.
    """

    name: str
    version: str
    tasks: frozenset[str]
    digits_max: int
