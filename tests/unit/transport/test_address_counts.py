"""Connections of one client are counted, however its address is written."""

from __future__ import annotations

import pytest
from tests.wire.connected import connect, serve
from tests.wire.recording_application import RecordingApplication

from open_autoglm.transport.address_counts import AddressCounts, client_of
from open_autoglm.transport.settings import WireLimits


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.1", ""),
        ("127.8.9.1", ""),
        ("::1", ""),
        ("::ffff:127.0.0.1", ""),
        ("unix", ""),
        ("", ""),
    ],
)
def test_a_client_is_an_address_or_a_network(address: str, client: str) -> None:
    assert client_of(address) == client


def test_a_client_is_counted_while_its_connections_are_open() -> None:
    counts = AddressCounts()
    entered = [counts.enter("192.0.2.7", 2) for _ in range(3)]
    assert entered == ["192.0.2.7", "192.0.2.7", None]
    assert counts.enter("192.0.2.8", 2) == "192.0.2.8"
    assert len(counts) == 2
    counts.leave("192.0.2.7")
    assert counts.enter("::ffff:192.0.2.7", 2) == "192.0.2.7"
    for client in ("192.0.2.7", "192.0.2.7", "192.0.2.8"):
        counts.leave(client)
    assert len(counts) == 0


def test_this_machine_is_not_counted() -> None:
    counts = AddressCounts()
    assert [counts.enter("127.0.0.1", 1) for _ in range(3)] == ["", "", ""]
    counts.leave("")
    assert len(counts) == 0


def test_a_client_with_too_many_connections_is_told_so() -> None:
    server = serve(RecordingApplication(connections=9), WireLimits(connections_per_address=2))
    lines = [connect(server) for _ in range(4)]
    assert [line.statuses() for line in lines] == [[], [], [503], [503]]
    other = connect(server, address="198.51.100.1")
    assert other.open
    for line in lines:
        line.transport.lose()
    assert connect(server).open
    assert server.connections == 2
