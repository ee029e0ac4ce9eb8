"""Settings of a member of a cluster."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Annotated

from msgspec import Meta, Struct, field

from open_autoglm.membership.member import split_address
from open_autoglm.membership.seal import derive_key
from open_autoglm.quantities import Seconds
from open_autoglm.secret import Secret

Interval = Annotated[float, Meta(ge=0.05, le=10, extra={"quantity": "duration"})]


class ClusterTls(Struct, frozen=True, forbid_unknown_fields=True):
    """How servers secure their connections to nodes that they find: each node must show a certificate of its own.

    Attributes:
        ca: PEM file of the authorities that sign members' certificates. The system's are not trusted for this.
        cert: PEM file of the certificate that this server shows to nodes that ask for one.
        key: PEM file of the private key of `cert`.
    """

    ca: str
    cert: str | None = None
    key: str | None = None


class ClusterSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Servers and nodes that find each other. There is a cluster as soon as there is a secret.

    Attributes:
        secret: shared by all members: the value, `${ENV}` or `file:PATH`, of 16 characters at least. Who has it can
            join.
        join: `HOST:PORT` of members that are there already; one that answers is enough, its own address does no harm.
        bind: `IP:PORT` for datagrams and exchanges of state, UDP and TCP; port 0 asks the system for a free one.
        advertise: the IP address under which others reach this member; that of `bind` when left out.
        name: of this member, unique in the cluster; host name and port of `bind` when left out.
        interval_s: the heartbeat: each member asks one other for a sign of life so often.
        forget_s: a member that died or left is shown for so long.
        tls: nodes are spoken to within TLS only, and must prove by a certificate that they are the member that they say
            they are; without it, in the clear.
    """

    secret: Secret | None = None
    join: list[str] = []
    bind: str = "127.0.0.1:8082"
    advertise: str | None = None
    name: str | None = None
    interval_s: Interval = field(default=0.25, name="interval")
    forget_s: Seconds = field(default=600.0, name="forget")
    tls: ClusterTls | None = None


def of_another_family(host: str, join: Iterable[str]) -> str:
    """Return the first `HOST:PORT` that an address of this family cannot reach, IPv4 or IPv6; empty for none.

    Names of hosts are left out: what they stand for is found when they are looked up.
    """
    own = _family(host)
    return next((seed for seed in join if own and (_family(split_address(seed)[0]) or own) != own), "")


def _family(host: str) -> int:
    """4 or 6; 0 for a name."""
    try:
        return ip_address(host).version
    except ValueError:
        return 0


def node_key(secret: Secret) -> Secret:
    """The key that members of a cluster show its nodes; whoever reads it on the wire does not learn the secret."""
    return Secret(derive_key(secret.reveal().encode(), "node").hex(), "derived")
