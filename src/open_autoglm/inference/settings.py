"""What a node is told at its start."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final, Literal

from msgspec import Struct

from open_autoglm.cluster.settings import of_another_family
from open_autoglm.errors import ServerError
from open_autoglm.membership.member import ADDRESS_BYTES_MAX, ID_BYTES_MAX, is_address, is_id
from open_autoglm.secret import Secret
from open_autoglm.transport.settings import TlsFiles

NodeClass = Literal["cpu", "gpu", "tpu", "edge"]
NODE_CLASSES: Final[tuple[NodeClass, ...]] = ("cpu", "gpu", "tpu", "edge")
MODELS_MAX: Final = 64
SECRET_CHARS_MIN: Final = 16
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
EVERY_NETWORK: Final = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound


class EngineSettings(Struct, frozen=True, kw_only=True):
    """What every engine of a node is given.

    Attributes:
        slots: requests per forward pass, 1 to 256.
        queue_max: requests that may wait, for each model.
        memory_max: bytes of keys and values, for each model; 0 for as much as the slots take.
        prefix_bytes_max: bytes that may be kept of finished prompts, within `memory_max`; 0 keeps none. Off unless
            asked for: with the models that ship it costs more than it saves (`python -m benchmarks.batching`).
        gpu_memory_fraction: of an accelerator's memory that this process may take, above 0, at most 1.
        threads: of a library that has threads of its own; 0 leaves the choice to it.
    """

    slots: int = 4
    queue_max: int = 256
    memory_max: int = 0
    prefix_bytes_max: int = 0
    gpu_memory_fraction: float = 0.9
    threads: int = 0


class NodeSettings(Struct, frozen=True, kw_only=True):
    """See the module.

    Attributes:
        models: the name that clients use, and the source, for each model.
        host, port: of the framed listener; port 0 takes a free one.
        admin_port: of `/healthz`, `/readyz` and `/metrics` on loopback; 0 takes a free one.
        node_class: what it runs on; servers may prefer one class for a model.
        secret: of the cluster: servers show it as their key. None lets everybody in, on loopback only.
        join: `HOST:PORT` of members of the cluster; without any the node stands alone.
        name: in the cluster, unique there; None takes the machine's name and the port that it gossips on.
        advertise: the IP address under which the cluster reaches this node; that of `host` when left out.
        gossip_port: on which it talks to the other members; 0 takes a free one.
        tls: files of the framed listener; with `client_ca` every server and client needs a certificate.
        data_dir: where versions of models are kept; None keeps none, and takes no updates.
        engine: see there.
        drain_s: how long running requests have when the node is told to stop.
        standard_loop: asyncio's own event loop instead of uvloop.
    """

    models: tuple[tuple[str, str], ...]
    host: str = "127.0.0.1"
    port: int = 8090
    admin_port: int = 0
    node_class: NodeClass = "cpu"
    secret: Secret | None = None
    join: tuple[str, ...] = ()
    name: str | None = None
    advertise: str | None = None
    gossip_port: int = 0
    tls: TlsFiles = TlsFiles()
    data_dir: str | None = None
    engine: EngineSettings = EngineSettings()
    drain_s: float = 30.0
    standard_loop: bool = False

    def check(self) -> None:
        """Raise unless a node can be run so.

        Raises:
            ServerError: with what to do.
        """
        if not 1 <= len(self.models) <= MODELS_MAX:
            raise ServerError("internal_error", f"{len(self.models)} models; give 1 to {MODELS_MAX} with --model")
        names = [name for name, _ in self.models]
        for name in names:
            if names.count(name) > 1:
                raise ServerError("internal_error", f"two models are called {name!r}; give each its own name")
        if self.secret is not None and len(self.secret.reveal()) < SECRET_CHARS_MIN:
            raise ServerError("internal_error", f"the secret is shorter than {SECRET_CHARS_MIN} characters")
        if self.secret is None and self.join:
            raise ServerError("internal_error", "to join a cluster takes its secret; give --secret-file")
        if self.name is not None and not is_id(self.name):
            raise ServerError(
                "internal_error",
                f"the name {self.name[:ID_BYTES_MAX]!r} is none; --name takes up to {ID_BYTES_MAX} letters, digits and "
                "._:@-, a letter or a digit first",
            )
        if self.name is not None and not self.join:
            raise ServerError("internal_error", "a name is for the cluster; give --join as well, or leave --name out")
        if self.join and self.advertise is None and self.host in EVERY_NETWORK:
            raise ServerError(
                "internal_error",
                f"{self.host} is no address to be reached at; give this machine's by --advertise",
            )
        self._check_join()
        self._check_tls()
        if self.secret is None and not is_loopback(self.host):
            raise ServerError(
                "internal_error",
                f"{self.host} can be reached from other machines; give --secret-file, or listen on 127.0.0.1",
            )

    def _check_join(self) -> None:
        for seed in self.join:
            if not is_address(seed):
                message = f"--join {seed[:ADDRESS_BYTES_MAX]} is no address of a member; write HOST:PORT"
                raise ServerError("internal_error", f"{message}, the port being that of its cluster.bind")
        seed = of_another_family(self.advertise or self.host, self.join)
        if seed:
            raise ServerError(
                "internal_error",
                f"--join {seed} cannot be reached from {self.advertise or self.host}: members need addresses of one "
                "family, IPv4 or IPv6; choose others by --host or --advertise",
            )

    def _check_tls(self) -> None:
        tls = self.tls
        if (tls.cert is None) != (tls.key is None) or (tls.client_ca is not None and tls.cert is None):
            raise ServerError("internal_error", "--tls-cert and --tls-key belong together, and --tls-client-ca to both")
        if tls.cert is not None and self.join and (self.name is None or _HOST_NAME.fullmatch(self.name) is None):
            raise ServerError(
                "internal_error",
                "servers of a cluster know a node by the name in its certificate; give --name, one of its DNS names",
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
