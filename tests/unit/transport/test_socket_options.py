"""What the kernel keeps for clients that do not read."""

import asyncio
import socket

from open_autoglm.transport.socket_options import UNSENT_BYTES, bound_unsent, reset


def test_accepted_sockets_inherit_the_bound() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        bound_unsent([listener])
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT_BYTES


async def test_a_reset_is_seen_as_one() -> None:
    lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    accepted: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()

    class Accepting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.set_result(transport)  # type: ignore[arg-type]

    class Losing(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.set_result(exc)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(Accepting, "127.0.0.1", 0)
    await loop.create_connection(Losing, *server.sockets[0].getsockname())
    reset(await accepted)
    assert isinstance(await lost, ConnectionResetError)
    server.close()
