"""Addresses as they are typed."""

import pytest

from open_autoglm.cli.failure import WRONG_USAGE, CommandFailed
from open_autoglm.cli.http_call import Address, Target, call, error_message, open_call, parse_address


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("http://127.0.0.1:8080", Address(False, "127.0.0.1", 8080)),
        ("localhost:9000", Address(False, "localhost", 9000)),
        ("localhost", Address(False, "localhost", 80)),
        ("https://models.example", Address(True, "models.example", 443)),
        ("http://h:1/api/", Address(False, "h", 1, "/api")),
        ("http://h:1/api/v1", Address(False, "h", 1, "/api")),
        ("http://[::1]:8080/v1/", Address(False, "::1", 8080)),
    ],
)
def test_addresses(typed: str, meant: Address) -> None:
    assert parse_address(typed) == meant
    assert parse_address(str(meant)) == meant


@pytest.mark.parametrize(
    "typed",
    ["", "ftp://h", "http://", "http://h:x", "http://h:99999", "http://user:pw@h", "http://h/?q=1", "http://h/#f"],
)
def test_what_is_no_address_is_wrong_usage(typed: str) -> None:
    with pytest.raises(CommandFailed, match="http://HOST:PORT") as failed:
        parse_address(typed)
    assert failed.value.exit_code == WRONG_USAGE


def test_nothing_listening_says_what_to_do() -> None:
    with pytest.raises(CommandFailed, match=r"nothing listens on http://127\.0\.0\.1:1; .*--server"):
        call(Target(Address(False, "127.0.0.1", 1)), "GET", "/")


def test_a_ca_file_that_is_none_says_so(tmp_path: object) -> None:
    target = Target(Address(True, "127.0.0.1", 1), ca=f"{tmp_path}/none.pem")
    with pytest.raises(CommandFailed, match=r"--ca .*PEM"), open_call(target, "GET", "/", timeout_s=1.0):
        pass


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "no", "code": "c"}}, "no"),
        ({"error": {"code": "c"}}, "c"),
        ({"error": "plain"}, "plain"),
        ({"detail": "x"}, ""),
        (None, ""),
        ([], ""),
    ],
)
def test_error_bodies(body: object, message: str) -> None:
    assert error_message(body) == message
