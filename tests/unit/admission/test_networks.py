import pytest

from open_autoglm.admission.networks import Networks, one_for_its_network

PROXIES = Networks(["10.0.0.0/8", "127.0.0.1", "fd00::/8"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.1.2.3", b"203.0.113.9", "203.0.113.9"),
        ("10.1.2.3", b"1.1.1.1, 203.0.113.9", "203.0.113.9"),
        ("10.1.2.3", b"1.1.1.1, 203.0.113.9, 10.9.9.9", "203.0.113.9"),
        ("::ffff:10.1.2.3", b"203.0.113.9", "203.0.113.9"),
        ("fd00::1", b"2001:db8::1", "2001:db8::1"),
        ("10.1.2.3", b"[2001:db8::1]:443", "2001:db8::1"),
        ("10.1.2.3", b"203.0.113.9:5000", "203.0.113.9"),
        ("10.1.2.3", b"10.0.0.1, 10.0.0.2", "10.0.0.1"),
        ("10.1.2.3", b"unknown", "10.1.2.3"),
        ("10.1.2.3", b"6.6.6.6, <script>, 10.0.0.7", "10.0.0.7"),
        ("10.1.2.3", b"", "10.1.2.3"),
        ("10.1.2.3", None, "10.1.2.3"),
        ("192.0.2.1", b"203.0.113.9", "192.0.2.1"),
        ("unix", b"203.0.113.9", "unix"),
    ],
)
def test_the_client_is_the_last_one_that_a_trusted_proxy_saw(peer: str, forwarded: bytes | None, client: str) -> None:
    assert PROXIES.client(peer, forwarded) == client


def test_a_proxy_on_a_unix_socket_is_trusted_by_name() -> None:
    assert Networks(["unix"]).client("unix", b"203.0.113.9") == "203.0.113.9"


def test_nobody_is_trusted_unless_named() -> None:
    assert not Networks([])
    assert Networks(["::1"])
    assert "127.0.0.1" not in Networks(["::1"])


@pytest.mark.parametrize("text", ["", "10.0.0.1/8", "example.com", "10.0.0.0/33"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"network|host bits|IPv4"):
        Networks([text])


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:0:7:1:2:3:4", "2001:db8:0:7::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("unix", "unix"),
        ("no:address", "no:address"),
    ],
)
def test_a_network_of_ipv6_counts_as_one_client(address: str, told: str) -> None:
    assert one_for_its_network(address) == told
