"""What a member says of itself (`Record`), and what another one knows of it (`Member`).

Invariant: of two records of one member the newer has the higher `(start, incarnation)`. `start` is new with each
start of the member's process; `incarnation` is raised by the member alone, to contradict a suspicion or to say
something new of itself (SWIM, Das, Gupta and Motivala, 2002).

| state | who says so | becomes |
|---|---|---|
| alive | the member | draining, suspect, left |
| draining | the member: no new requests, please | suspect, left |
| suspect | somebody who did not hear from it | alive or draining (it contradicts), dead |
| dead | somebody whose suspicion was not contradicted in time | alive, by a newer record; forgotten |
| left | the member | alive, by a newer record; forgotten |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from msgspec import Struct

from open_autoglm.membership.load import LoadReport

Role = Literal["server", "node"]
State = Literal["alive", "draining", "suspect", "dead", "left"]

ROLES: Final[tuple[Role, ...]] = ("server", "node")
STATES: Final[tuple[State, ...]] = ("alive", "draining", "suspect", "dead", "left")
CLASSES: Final = ("", "cpu", "gpu", "tpu", "edge")
"""What a node computes on; a server says nothing."""

ID_BYTES_MAX: Final = 64
ADDRESS_BYTES_MAX: Final = 80
MODEL_BYTES_MAX: Final = 128
VERSION_BYTES_MAX: Final = 64
MODELS_MAX: Final = 64

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]*")
_ADDRESS: Final = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
_PORT_MAX: Final = 65535


class Record(Struct, frozen=True):
    """See the module.

    Attributes:
        id: the member's name, unique in the cluster.
        role: `server` takes requests, `node` runs models.
        node_class: `cpu`, `gpu`, `tpu` or `edge`; empty for a server.
        start: of the member's process; a later start has a higher number.
        incarnation: see the module.
        draining: it finishes what it has and wants no more.
        gossip: `HOST:PORT` of its datagrams.
        address: `HOST:PORT` where it serves, framed; empty while it does not.
        models: name and version of each model that it serves.
    """

    id: str
    role: Role
    node_class: str = ""
    start: int = 0
    incarnation: int = 0
    draining: bool = False
    gossip: str = ""
    address: str = ""
    models: tuple[tuple[str, str], ...] = ()

    @property
    def age(self) -> tuple[int, int]:
        """Of two records of one member the newer has the higher one."""
        return self.start, self.incarnation


@dataclass(slots=True, eq=False)
class Member:
    """Another member, as it is known here.

    Attributes:
        record: the newest of its records.
        state: see the module.
        since_s: monotonic seconds of the last change of state.
        heard_s: monotonic seconds of its last sign of life, heard directly or through others.
        judged: the incarnation that was last suspected, or taken for dead or gone; its record may come later.
        load: its newest report; None while there was none.
        delay_s: time for a question and its answer, smoothed; None while it was not asked directly.
    """

    record: Record
    state: State
    since_s: float
    heard_s: float
    load: LoadReport | None = None
    delay_s: float | None = None
    judged: int = -1

    @property
    def age(self) -> tuple[int, int]:
        """Start and incarnation that are known of."""
        return self.record.start, max(self.record.incarnation, self.judged)

    @property
    def id(self) -> str:
        """Its name."""
        return self.record.id

    @property
    def present(self) -> bool:
        """Whether it is taken to be there."""
        return self.state not in ("dead", "left")


def is_id(text: str) -> bool:
    """Whether a text may be a member's name: letters, digits and `._:@-`, a letter or digit first, 64 at most."""
    return len(text) <= ID_BYTES_MAX and _ID.fullmatch(text) is not None


def is_address(text: str) -> bool:
    """Whether a text is `HOST:PORT` or `[IPV6]:PORT`, of 80 characters at most."""
    if len(text) > ADDRESS_BYTES_MAX or _ADDRESS.fullmatch(text) is None:
        return False
    return int(text.rpartition(":")[2]) <= _PORT_MAX


def split_address(text: str) -> tuple[str, int]:
    """Return host and port of an address; brackets around IPv6 go.

    Raises:
        ValueError: it is none.
    """
    if not is_address(text):
        raise ValueError(f"{text[:ADDRESS_BYTES_MAX]!r} is no address; write HOST:PORT")
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def join_address(host: str, port: int) -> str:
    """Return `HOST:PORT`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
