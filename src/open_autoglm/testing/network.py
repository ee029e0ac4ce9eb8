"""A network in memory: hosts with names, listeners, connections, and everything that can go wrong between them.

Protocols of asyncio run on it unchanged, through `loop.create_server` and `loop.create_connection`. What is listened
or connected within `network.at("gateway")` belongs to that host, and so does whatever its callbacks begin.
Invariants: bytes of one connection arrive in order, each once, or the connection breaks; the same seed gives the same
delays and the same cuts.

| fault | connections to come | connections that are open |
|---|---|---|
| `refuse` | refused | go on |
| `freeze` (a stopped process) | are taken by its kernel, and then nothing | bytes wait, both ways |
| `cut(a, b)` | wait | bytes from a to b wait; those from b to a arrive |
| `black_hole` | wait | bytes wait, both ways |
| `reset` | go on | are reset |
| `kill` (a process that died) | refused | are reset |
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import random
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from open_autoglm.testing.loop import VirtualLoop
from open_autoglm.testing.pipe import PipeEnd, join

_HERE: contextvars.ContextVar[str] = contextvars.ContextVar("virtual host")
_SYN_AGAIN_S = 1.0
"""When a lost first packet of a connection is sent again; doubled each time."""
_SYN_AGAIN_MAX_S = 16.0
_EPHEMERAL_PORT = 49_152
_MANY_PIECES = 0.15
"""Share of the cuts that make many small pieces instead of two."""
_RESEND_S = 0.2
"""Delay of a piece that was lost and had to be sent again; doubled each time."""

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


@dataclass(slots=True)
class Link:
    """What the way between two hosts is like; it may be changed while bytes are on it.

    Attributes:
        delay_s, jitter_s: one way: the least, and what chance adds at most.
        loss: share of pieces that are lost and come later, after they were sent again.
        cuts: share of writes that arrive in more than one piece.
        window_bytes: what the kernels hold of one direction before the writer's own buffer fills.
    """

    delay_s: float = 0.0005
    jitter_s: float = 0.0005
    loss: float = 0.0
    cuts: float = 0.25
    window_bytes: int = 65_536


class Listener:
    """A listening socket, as `loop.create_server` returns it; it stands for its server too."""

    __slots__ = ("context", "factory", "host", "port")

    def __init__(self, host: Host, port: int, factory: ProtocolFactory) -> None:
        self.host = host
        self.port = port
        self.factory = factory
        self.context = contextvars.copy_context()

    @property
    def sockets(self) -> tuple[Listener, ...]:
        """This stands for its socket too."""
        return (self,)

    @property
    def family(self) -> int:
        """IPv4."""
        return socket.AF_INET

    def getsockname(self) -> tuple[str, int]:
        """Its address."""
        return self.host.address, self.port

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """No option changes anything here."""

    def close(self) -> None:
        """Take no more connections."""
        if self.host.listeners.get(self.port) is self:
            del self.host.listeners[self.port]

    def is_serving(self) -> bool:
        """Whether connections are taken."""
        return self.host.listeners.get(self.port) is self

    async def wait_closed(self) -> None:
        """Its connections are not waited for."""


class Host:
    """A machine with a name.

    Attributes:
        name, address: how it is called; both can be connected to.
        listeners: by port.
        ends: its ends of open connections, in the order of their opening.
        refusing, frozen, hidden: see `refuse`, `freeze` and `black_hole` of the network.
        refused: connections refused so far.
    """

    __slots__ = ("address", "ends", "frozen", "hidden", "listeners", "name", "refused", "refusing")

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.listeners: dict[int, Listener] = {}
        self.ends: dict[PipeEnd, None] = {}
        self.refusing = self.frozen = self.hidden = False
        self.refused = 0


class Network:
    """See the module. Making one gives it to the loop.

    Args:
        loop: whose time and chance it uses.
        link: between any two hosts.
    """

    def __init__(self, loop: VirtualLoop, link: Link | None = None) -> None:
        self.loop = loop
        self.link = link if link is not None else Link()
        self.hosts: dict[str, Host] = {}
        self._cut: set[tuple[str, str]] = set()
        self._ports = itertools.count(_EPHEMERAL_PORT)
        self._rng = random.Random(loop.rng.getrandbits(64))
        loop.network = self

    def host(self, name: str) -> Host:
        """The host of a name, which is made when it is new."""
        host = self.hosts.get(name)
        if host is None:
            number = len(self.hosts) + 1
            host = self.hosts[name] = Host(name, f"10.0.{number >> 8}.{number & 255}")
        return host

    @contextlib.contextmanager
    def at(self, name: str) -> Iterator[Host]:
        """Be on a host: what is opened or scheduled within the context happens there."""
        token = _HERE.set(self.host(name).name)
        try:
            yield self.host(name)
        finally:
            _HERE.reset(token)

    # Faults.

    def refuse(self, name: str, on: bool = True) -> None:
        """Refuse new connections to a host, or take them again."""
        self.host(name).refusing = on

    def freeze(self, name: str) -> None:
        """Stop a host's processes; its kernel still takes connections."""
        self.host(name).frozen = True

    def thaw(self, name: str) -> None:
        """Let a frozen host go on."""
        self.host(name).frozen = False
        self._wake()

    def black_hole(self, name: str, on: bool = True) -> None:
        """Let nothing through to or from a host, or everything again."""
        self.host(name).hidden = on
        if not on:
            self._wake()

    def cut(self, source: str, target: str) -> None:
        """Let nothing through from one host to another; the way back stays open."""
        self._cut.add((source, target))

    def heal(self, source: str, target: str) -> None:
        """Undo a cut; what was sent meanwhile arrives."""
        self._cut.discard((source, target))
        self._wake()

    def reset(self, name: str) -> None:
        """Reset every open connection of a host."""
        for end in list(self.host(name).ends):
            end.break_off()

    def kill(self, name: str) -> None:
        """End a host's processes: connections are reset, new ones refused until `revive`."""
        self.host(name).refusing = True
        self.reset(name)

    def revive(self, name: str) -> None:
        """Start a killed host again; its listeners take connections."""
        self.host(name).refusing = False

    def blocked(self, source: Host, target: Host) -> bool:
        """Whether nothing arrives at `target` from `source` now."""
        return source.hidden or target.hidden or (source.name, target.name) in self._cut

    def _wake(self) -> None:
        for host in self.hosts.values():
            for end in host.ends:
                end.wake()

    # What the ends of a connection ask.

    def delay_s(self) -> float:
        """Draw how long a piece is on its way."""
        link = self.link
        delay_s = link.delay_s + link.jitter_s * self._rng.random()
        if link.loss:
            again_s = _RESEND_S
            while self._rng.random() < link.loss and again_s < 4.0:
                delay_s += again_s
                again_s *= 2.0
        return delay_s

    def pieces(self, data: bytes) -> list[bytes]:
        """Draw in which pieces a write arrives; a cut may fall within a character."""
        rng = self._rng
        size = len(data)
        if size < 2 or rng.random() >= self.link.cuts:
            return [data]
        count = min(size - 1, rng.randint(2, 12)) if rng.random() < _MANY_PIECES else 1
        points = sorted({0, size, *(rng.randrange(1, size) for _ in range(count))})
        return [data[start:stop] for start, stop in itertools.pairwise(points)]

    # What the loop asks.

    def listen(self, factory: ProtocolFactory, name: str | None, port: int | None) -> Listener:
        """Open a listener on the host that this is, whatever address is named.

        Raises:
            OSError: the port is taken.
        """
        host = self._here()
        port = port or next(self._ports)
        if port in host.listeners:
            raise OSError(98, f"port {port} of {host.name} is taken")
        listener = host.listeners[port] = Listener(host, port, factory)
        return listener

    async def connect(
        self, factory: ProtocolFactory, name: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Open a connection from the host that this is.

        Raises:
            OSError: there is no such host.
            ConnectionRefusedError: nobody listens there.
        """
        source = self._here()
        target = self._find(name, source)
        again_s = _SYN_AGAIN_S
        await asyncio.sleep(self.delay_s())
        while self.blocked(source, target) or self.blocked(target, source):
            await asyncio.sleep(again_s)
            again_s = min(2 * again_s, _SYN_AGAIN_MAX_S)
        listener = target.listeners.get(port)
        if listener is None or target.refusing:
            target.refused += 1
            await asyncio.sleep(self.delay_s())
            raise ConnectionRefusedError(111, f"{target.name}:{port} refuses connections")
        await asyncio.sleep(self.delay_s())
        protocol = factory()
        near = PipeEnd(self, source, next(self._ports), contextvars.copy_context())
        far = PipeEnd(self, target, port, listener.context.copy())
        join(near, far)
        far.accept_later(listener.factory)
        near.adopt(protocol)
        return near, protocol

    def _here(self) -> Host:
        try:
            return self.hosts[_HERE.get()]
        except LookupError:
            raise OSError("no host is meant; use `with network.at(NAME)`") from None

    def _find(self, name: str, source: Host) -> Host:
        if name in ("127.0.0.1", "localhost", "::1"):
            return source
        host = self.hosts.get(name)
        if host is not None:
            return host
        for host in self.hosts.values():
            if host.address == name:
                return host
        raise OSError(-2, f"no host is called {name!r}")
