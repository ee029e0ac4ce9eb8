"""Asking a model from inside the server, in words that neither a connection nor a dialect has a part in."""

from __future__ import annotations

from typing import Any, Protocol

from msgspec import Struct

from open_autoglm.dialects.canonical import Message
from open_autoglm.scheduling.budget import Ledger


class Reply(Struct, frozen=True):
    """A member's whole answer.

    Attributes:
        text: what it wrote; empty where it wrote nothing.
        finish_reason: as it said, `stop` where it did not.
        prompt_tokens, completion_tokens: as billed; an estimate where nobody counted.
        cost: money by the price of the endpoint that answered.
        version: of the model's weights, empty where nobody said it.
        endpoint: which one answered, without what could be secret.
        confidence: mean probability of the answer's tokens, 0 to 1; None where the model does not tell it.
        reasoning: what it wrote before the answer; empty where it does not show that.
        drawn: whether a team gave it whose members were paid from the asker's own ledger, see `Origin`; the figures
            above are then not to be counted there once more.
    """

    text: str
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    version: str = ""
    endpoint: str = ""
    confidence: float | None = None
    reasoning: str = ""
    drawn: bool = False


class ModelCaller(Protocol):
    """Asks models by their names as clients know them, with all that the request path does for a client."""

    async def ask(
        self,
        member: str,
        messages: list[Message],
        *,
        deadline_s: float,
        temperature: float | None = None,
        seed: int | None = None,
        max_tokens: int | None = None,
        tenant: str = "",
        priority: int = 2,
    ) -> Reply:
        """Ask one model; a coroutine that is cancelled cancels the attempt at once.

        Args:
            member: name of a model, virtual ones too.
            messages: the conversation.
            deadline_s: monotonic seconds.
            temperature, seed, max_tokens: the model's own defaults where they are left out.
            tenant, priority: in whose turn it waits for room, and in which class.

        Raises:
            AutoGLMError: there is no answer.
        """


class Origin(Struct, frozen=True):
    """On whose behalf members are asked.

    Attributes:
        trace_id: of the client's request; made where it is empty.
        key: name of the client's key, for logs.
        client: address of the client, for logs.
        parameters: further fields of a chat completion, plain JSON values, as `top_p` or `response_format`.
        hops: how many servers have that request from another server; sent on, so that circles of servers end.
        logprobs: whether log probabilities are asked for, which confidence is made of.
        ledger: of whoever asks. A virtual model that is asked draws on it for each ask of its own, at the moment of
            that ask, so that what is cancelled, planned anew or comes to no answer counts as well.
    """

    trace_id: str = ""
    key: str = ""
    client: str = ""
    parameters: dict[str, Any] = {}
    hops: int = 0
    logprobs: bool = False
    ledger: Ledger | None = None


class CallerSource(Protocol):
    """Makes callers."""

    def caller(self, origin: Origin) -> ModelCaller:
        """A caller that asks on somebody's behalf; it may be used for any number of questions."""
