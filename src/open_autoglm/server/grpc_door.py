"""The gRPC listener's place in a server: opened when `server.grpc_port` says so, and nothing of gRPC is loaded before.

Invariant: a server without the listener has the same door, through which nobody comes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from open_autoglm.config.schema import ServerConfig
from open_autoglm.errors import AutoGLMError, ServerError
from open_autoglm.gateway.gateway import Gateway
from open_autoglm.transport.ports import port_error

if TYPE_CHECKING:
    from open_autoglm.gateway.grpc_service import GrpcService
    from open_autoglm.transport.grpc_listener import GrpcListener

_log = logging.getLogger(__name__)
_NEEDED: Final = (("grpc", "grpcio"), ("google.protobuf", "protobuf"))
_LAST_WORDS_S: Final = 1.0
"""What was ended by the drain has so long to reach its clients before gRPC itself cuts."""


class GrpcDoor:
    """See the module.

    Args:
        gateway: the request path.

    Attributes:
        port: of the listener; 0 while there is none.
    """

    def __init__(self, gateway: Gateway) -> None:
        self.port = 0
        self._gateway = gateway
        self._service: GrpcService | None = None
        self._listener: GrpcListener[Any] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def open(self, config: ServerConfig, *, beside: bool) -> None:
        """Open the listener, if the configuration has one.

        Args:
            config: to start with.
            beside: whether the process that is being replaced still listens there.

        Raises:
            ServerError: a package is missing, or the address cannot be had.
        """
        server = config.server
        if server.grpc_port is None:
            return
        check_packages()
        from open_autoglm.gateway.grpc_service import GrpcService
        from open_autoglm.protocol.grpc_messages import SERVICE
        from open_autoglm.transport.grpc_listener import GrpcListener

        self._service = GrpcService(self._gateway)
        self._listener = GrpcListener(self._service, SERVICE, config.wire)
        try:
            self.port = await self._listener.listen(server.host, server.grpc_port, config.tls, beside=beside)
        except OSError as error:
            raise port_error(error, server.host, server.grpc_port, "server.grpc_port") from error
        _log.info("gRPC listener on %s:%d", server.host, self.port)

    def running(self) -> tuple[int, int]:
        """How many requests are answered in one piece, and how many in pieces."""
        return (0, 0) if self._service is None else self._service.running()

    def end_rest(self, error: AutoGLMError, *, streams: bool) -> None:
        """End what is asked here, streams when they are meant too."""
        if self._service is not None:
            self._service.end_rest(error, streams=streams)

    def leave(self, grace_s: float) -> None:
        """Take no more connections and requests; what runs has `grace_s`. The second time nothing happens."""
        if self._listener is not None and self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._listener.close(grace_s + _LAST_WORDS_S))

    async def close(self) -> None:
        """Close; what was ended just now may still be told so."""
        self.leave(0.0)
        if self._closing is not None:
            await self._closing


def check_packages(find: Callable[[str], object | None] = find_spec) -> None:
    """See whether what the listener needs is installed.

    Args:
        find: says of a module where it is, None for nowhere.

    Raises:
        ServerError: a package is missing.
    """
    for module, package in _NEEDED:
        try:
            found = find(module) is not None
        except ModuleNotFoundError:  # of the package that it would be in
            found = False
        if not found:
            raise ServerError(
                "internal_error",
                f"server.grpc_port needs the package {package}, which is not installed; "
                "pip install 'open-autoglm[grpc]', or leave server.grpc_port out",
            )
