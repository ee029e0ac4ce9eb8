"""What the gRPC listener makes of addresses and of our errors; the rest needs a client, see tests/integration."""

from __future__ import annotations

import grpc
import pytest

from open_autoglm.errors import CODES
from open_autoglm.transport.grpc_listener import STATUSES, address_of


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:127.0.0.1:4000", "127.0.0.1"),
        ("ipv6:%5B::1%5D:4000", "::1"),
        ("ipv6:[2001:db8::1]:4000", "2001:db8::1"),
        ("unix:", "unix:"),
    ],
)
def test_addresses(peer: str, address: str) -> None:
    assert address_of(peer) == address


def test_every_code_has_a_status() -> None:
    assert {code.http_status for code in CODES.values()} <= STATUSES.keys()
    assert grpc.StatusCode.OK not in STATUSES.values()


def test_what_is_worth_another_try_says_so_as_grpc_does() -> None:
    told = {STATUSES[code.http_status] for code in CODES.values() if code.retryable}
    assert told == {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
