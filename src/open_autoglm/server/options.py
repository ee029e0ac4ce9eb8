"""What is typed to start a server, and what a started one says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from open_autoglm.secret import Secret


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What was typed.

    Attributes:
        config_path: the file; None for none, when the environment or `text` says what to serve.
        insecure: a public address without authentication is meant.
        host, port, admin_port: instead of the configuration's.
        standard_loop: asyncio's own event loop instead of uvloop.
        text: a configuration given directly.
    """

    config_path: str | None
    insecure: bool = False
    host: str | None = None
    port: int | None = None
    admin_port: int | None = None
    standard_loop: bool = False
    text: str | None = None

    def environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment with what was typed laid over it, so that the configuration's checks see it too."""
        typed = {"HOST": self.host, "PORT": self.port, "ADMIN_PORT": self.admin_port}
        return dict(environ) | {
            f"MCP__SERVER__{name}": str(value) for name, value in typed.items() if value is not None
        }


@dataclass(frozen=True, slots=True)
class Place:
    """One process among those of a server.

    Attributes:
        index: 0 for the leader, which answers for all at the admin listener.
        count: of processes that serve, at least 1.
    """

    index: int = 0
    count: int = 1

    @property
    def is_alone(self) -> bool:
        """Whether there is no other."""
        return self.count == 1

    def part(self, total: int) -> int:
        """This process's part of something that is limited for all together, rounded up."""
        return -(-total // self.count)


@dataclass(frozen=True, slots=True)
class Started:
    """A server that takes requests.

    Attributes:
        data_address, admin_address: host and port; no admin address while that listener opens.
        admin_key: of the admin listener.
        models: name, dialect, endpoint without secrets, state.
        warnings: of the configuration.
        tls: whether the data listener speaks TLS.
        context_path: before every route.
        grpc_port: of the gRPC listener; 0 when there is none.
        clustered: whether models come with nodes that are found.
        form: `compiled` or `plain`, see `native`.
    """

    data_address: tuple[str, int]
    admin_address: tuple[str, int] | None
    admin_key: Secret
    models: list[dict[str, object]]
    warnings: list[str]
    tls: bool
    context_path: str
    grpc_port: int = 0
    clustered: bool = False
    form: str = "plain"
