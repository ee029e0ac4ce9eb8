"""Exchanges full states between two members over TCP, on the port number of their datagrams.

Invariant: beyond 37 bytes of fixed length nothing is read from, and nothing of the state is told to, a peer that has
not shown that it knows the cluster's secret; and an exchange is worth nothing to who recorded it, for its key depends
on numbers that both sides drew.

| step | bytes |
|---|---|
| caller | `GOSS` 01, its number (16) |
| called | its number (16), seal of `called` |
| caller | seal of `caller`, length u32, seal of the state, state |
| called | length u32, seal of the state, state |

The key of all seals is derived from the secret with both numbers as salt (`membership.seal`). States are sealed with a
byte before them that says whose they are.
"""

from __future__ import annotations

import asyncio
import secrets
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from typing import Final

from open_autoglm.membership.errors import GossipError
from open_autoglm.membership.member import split_address
from open_autoglm.membership.seal import SEAL_BYTES, derive_key, is_sealed, seal_of

PREFACE: Final = b"GOSS\x01"
STATE_BYTES_MAX: Final = 4 * 2**20
"""More than 1,024 members with everything that fits their records, and the facts."""
EXCHANGE_S: Final = 3.0
"""For all of an exchange."""
CALLERS_MAX: Final = 32
"""Exchanges that others began and that run at once."""
_NUMBER_BYTES: Final = 16
_LENGTH_BYTES: Final = 4
_CALLER, _CALLED = b"caller", b"called"

GiveState = Callable[[], bytes]
TakeState = Callable[[bytes, str], None]


class PushPull:
    """See the module.

    Args:
        secret: the cluster's.
        give: returns the own state.
        take: is given the other's, and the address `HOST:PORT` that was called, or nothing; it may raise `GossipError`.
        limit_s: for all of an exchange, seconds.

    Attributes:
        refused: exchanges that ended because the other side did not know the secret, or spoke nonsense.
    """

    def __init__(self, secret: bytes, give: GiveState, take: TakeState, limit_s: float = EXCHANGE_S) -> None:
        self._secret = secret
        self._give = give
        self._take = take
        self._limit_s = limit_s
        self._callers = 0
        self._server: asyncio.Server | None = None
        self.refused = 0

    async def listen(self, host: str, port: int) -> None:
        """Open the listener.

        Raises:
            OSError: the address or port cannot be had.
        """
        self._server = await asyncio.start_server(self._answer, host, port, limit=2**16)

    def close(self) -> None:
        """Close the listener; exchanges that run end by their own limit."""
        if self._server is not None:
            self._server.close()

    async def call(self, address: str) -> None:
        """Exchange states with a member.

        Args:
            address: `HOST:PORT`.

        Raises:
            OSError: it cannot be reached, or is silent.
            GossipError: it does not know the secret, or spoke nonsense.
        """
        host, port = split_address(address)
        writer: StreamWriter | None = None
        try:
            async with asyncio.timeout(self._limit_s):
                reader, writer = await asyncio.open_connection(host, port, limit=2**16)
                number = secrets.token_bytes(_NUMBER_BYTES)
                writer.write(PREFACE + number)
                theirs = await reader.readexactly(_NUMBER_BYTES)
                key = derive_key(self._secret, "push-pull", number + theirs)
                await _check(reader, key, _CALLED)
                writer.write(seal_of(key, _CALLER) + _sealed(key, b"\0", self._give()))
                await writer.drain()
                self._take(await _read_state(reader, key, b"\1"), address)
        except (EOFError, GossipError) as error:
            self.refused += 1
            raise GossipError(str(error) if isinstance(error, GossipError) else "it ended early") from error
        finally:
            if writer is not None:
                writer.close()

    async def _answer(self, reader: StreamReader, writer: StreamWriter) -> None:
        if self._callers >= CALLERS_MAX:
            writer.close()
            return
        self._callers += 1
        try:
            async with asyncio.timeout(self._limit_s):
                await self._exchange(reader, writer)
        except GossipError:
            self.refused += 1
        except (OSError, EOFError):
            pass  # it went away, or was too slow
        finally:
            self._callers -= 1
            writer.close()

    async def _exchange(self, reader: StreamReader, writer: StreamWriter) -> None:
        head = await reader.readexactly(len(PREFACE) + _NUMBER_BYTES)
        if not head.startswith(PREFACE):
            raise GossipError("this is no exchange of states")
        number = secrets.token_bytes(_NUMBER_BYTES)
        key = derive_key(self._secret, "push-pull", head[len(PREFACE) :] + number)
        writer.write(number + seal_of(key, _CALLED))
        await _check(reader, key, _CALLER)
        state = await _read_state(reader, key, b"\0")
        mine = self._give()
        self._take(state, "")
        writer.write(_sealed(key, b"\1", mine))
        await writer.drain()


async def _check(reader: StreamReader, key: bytes, who: bytes) -> None:
    if not is_sealed(key, who, await reader.readexactly(SEAL_BYTES)):
        raise GossipError("the other side does not know the cluster's secret")


def _sealed(key: bytes, whose: bytes, state: bytes) -> bytes:
    return len(state).to_bytes(_LENGTH_BYTES, "big") + seal_of(key, whose + state) + state


async def _read_state(reader: StreamReader, key: bytes, whose: bytes) -> bytes:
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    if length > STATE_BYTES_MAX:
        raise GossipError(f"a state of {length} bytes is too long; {STATE_BYTES_MAX} are the most")
    seal = await reader.readexactly(SEAL_BYTES)
    state = await reader.readexactly(length)
    if not is_sealed(key, whose + state, seal):
        raise GossipError("a state's seal is wrong")
    return state
