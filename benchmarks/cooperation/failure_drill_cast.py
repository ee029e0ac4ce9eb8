"""Who plays in the failure drill: six upstreams, of which one can be dead, one slow and one always wrong.

Sums are asked, so whoever reads the question knows the answer. What an upstream says of its own certainty is said in
token probabilities: the one that is wrong is surer than the others.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import socket
from typing import Any, Final

from open_autoglm.testing.reply import Asked, Behaviour, Reply, Steps
from open_autoglm.testing.upstream import ScriptedUpstream

ROLES: Final = ("dead", "wrong", "slow", "one", "two", "three")
SERVICE_S: Final = 0.02
"""From a question to its answer, of whoever is well."""
SLOWER: Final = 10
SURE, SURER = 0.9, 0.97
"""What the others, and the one that is wrong, say of their answers."""
_FILLERS: Final = 8
"""Connections that fill a listener's queue of one, so that further ones hang."""

SERVERS: Final = (("healthy", "refused"), ("black hole",))
"""Phases, by the server that goes through them: what a breaker knows of one dead member must not help with the other.

`healthy`: all are well. In the others one is slow, one wrong; the dead one refuses connections, or takes none."""
PHASES: Final = tuple(phase for phases in SERVERS for phase in phases)


def total(question: str) -> int:
    """The right answer."""
    return sum(int(number) for number in re.findall(r"\d+", question))


class Cast:
    """The upstreams, in an `async with` block.

    Attributes:
        wrong, slow: whether the two that can be are so now.
    """

    def __init__(self) -> None:
        self.wrong = self.slow = False
        self._upstreams = {role: ScriptedUpstream(self._script, name=role) for role in ROLES}
        self._hole: list[socket.socket] = []

    async def __aenter__(self) -> Cast:
        for upstream in self._upstreams.values():
            await upstream.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close_hole()
        for upstream in self._upstreams.values():
            upstream.stop()

    def url(self, role: str) -> str:
        """Address of an upstream, which stays."""
        return self._upstreams[role].url

    async def enter(self, phase: str) -> None:
        """Begin a phase."""
        dead = self._upstreams["dead"]
        self._close_hole()
        dead.stop()
        self.wrong = self.slow = phase != "healthy"
        if phase == "black hole":
            self._open_hole(dead.port)
        elif phase == "healthy":
            await dead.start(port=dead.port)

    # What they say.

    def _script(self, asked: Asked) -> Behaviour:
        def behave(reply: Reply) -> Steps:
            role = asked.upstream
            yield SERVICE_S * (SLOWER if self.slow and role == "slow" else 1)
            reply.send(200, json.dumps(self._body(asked, role)).encode())

        return behave

    def _body(self, asked: Asked, role: str) -> dict[str, Any]:
        right = total(str(asked.body["messages"][-1]["content"]))
        wrong = self.wrong and role == "wrong"
        text = str(right + 10 if wrong else right)
        if wrong and asked.model.startswith("fastest"):  # whoever takes the first answer can only tell that it is none
            text = ""
        score = {"token": text, "logprob": math.log(SURER if wrong else SURE), "top_logprobs": []}
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "logprobs": {"content": [score]},
            "finish_reason": "stop",
        }
        usage = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}
        frame = {"id": "drill", "object": "chat.completion", "created": 0, "model": asked.model}
        return frame | {"choices": [choice], "usage": usage}

    # A port that takes no connection and refuses none.

    def _open_hole(self, port: int) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(0)
        self._hole = [listener]
        for _ in range(_FILLERS):
            filler = socket.socket()
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(("127.0.0.1", port))
            self._hole.append(filler)

    def _close_hole(self) -> None:
        for each in self._hole:
            each.close()
        self._hole = []
