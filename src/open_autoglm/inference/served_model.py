"""One model of a node, under the name that clients use: its engine, and what was counted of its requests."""

from __future__ import annotations

from open_autoglm.engines.events import Usage
from open_autoglm.engines.model_engine import ModelEngine
from open_autoglm.errors import CODES


class ServedModel:
    """See the module.

    Args:
        name: that clients use.
        source: where the model came from, for people.
        engine: that runs it.

    Attributes:
        in_flight: requests that have not ended.
        answered, cancelled: how many were answered, and how many nobody wanted any more.
        failures: how many ended with an error, by code.
        prompt_tokens, completion_tokens: of those that were answered.
    """

    __slots__ = (
        "answered",
        "cancelled",
        "completion_tokens",
        "engine",
        "failures",
        "in_flight",
        "name",
        "prompt_tokens",
        "source",
    )

    def __init__(self, name: str, source: str, engine: ModelEngine) -> None:
        self.name = name
        self.source = source
        self.engine = engine
        self.in_flight = 0
        self.answered = 0
        self.cancelled = 0
        self.failures: dict[str, int] = {}
        self.prompt_tokens = 0
        self.completion_tokens = 0

    def ended(self, usage: Usage) -> None:
        """Count an answer."""
        self.in_flight -= 1
        self.answered += 1
        self.prompt_tokens += usage.prompt_tokens
        self.completion_tokens += usage.completion_tokens

    def failed(self, code: str) -> None:
        """Count a request that ended with an error."""
        self.in_flight -= 1
        self.failures[code] = self.failures.get(code, 0) + 1

    def dropped(self) -> None:
        """Count a request that nobody wanted any more."""
        self.in_flight -= 1
        self.cancelled += 1

    def outcomes(self) -> dict[tuple[str, str], int]:
        """How many requests ended so, by HTTP status and code."""
        counts = {("200", ""): self.answered, ("499", "client_closed"): self.cancelled}
        counts.update({(str(CODES[code].http_status), code): count for code, count in self.failures.items()})
        return {key: count for key, count in counts.items() if count}
