"""Addresses with places: what is understood, and that no argument leaves its place."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.tools.public_address import is_public
from open_autoglm.tools.tool import ToolError
from open_autoglm.tools.url_template import read_template

TEMPLATE = "https://api.example.com/v1/cities/{city}/days/{day}?units={units}&fixed=1"


def test_a_template_is_read() -> None:
    template = read_template(TEMPLATE)
    assert (template.scheme, template.host, template.port, template.authority) == (
        "https",
        "api.example.com",
        443,
        "api.example.com",
    )
    assert (template.in_path, template.in_query) == (("city", "day"), ("units",))
    assert template.target({"city": "Köln/x..", "day": 3, "units": "a&b=c"}, {"on": True}) == (
        "/v1/cities/K%C3%B6ln%2Fx../days/3?units=a%26b%3Dc&fixed=1&on=true"
    )
    assert template.target({"city": "x", "day": 3}, {}) == "/v1/cities/x/days/3?fixed=1"
    assert read_template("http://[::1]:8080").authority == "[::1]:8080"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ftp://host/", "is no address"),
        ("https://{host}/", "no argument in the host"),
        ("https://host{x}/", "no argument in the host"),
        ("https://user:secret@host/", "user or password"),
        ("https://host/#top", "is no address"),
        ("https://host/a b", "is no address"),
        ("https://host\\@other/", "user or password"),
        ("https://host:0/", "port"),
        ("https://host:99999/", "port"),
        ("https://host/{a", "brace"),
        ("https://host/{a-b}", "brace"),
        ("https://host/../x", r"`\.\.`"),
        ("https://host/?{name}=1", "name of a query field"),
    ],
)
def test_what_is_no_template_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_template(text)


@pytest.mark.parametrize(
    "value", ["", ".", "..", None, [], {}, "\ud800", "x" * 9000, "../admin", "a/..", "..\\x", "a/./b"]
)
def test_what_cannot_stand_in_a_path_is_refused(value: object) -> None:
    with pytest.raises(ToolError) as caught:
        read_template("https://host/a/{x}").target({"x": value}, {})
    assert caught.value.code == "invalid_arguments"


TEXTS = st.text(min_size=1, max_size=20).filter(
    lambda text: text.isprintable() and not {".", ".."} & set(text.replace("\\", "/").split("/"))
)


@given(TEXTS, TEXTS, TEXTS)
def test_no_argument_leaves_its_place(city: str, day: str, units: str) -> None:
    target = read_template(TEMPLATE).target({"city": city, "day": day, "units": units}, {})
    assert target.isascii()
    parts = urlsplit(f"https://api.example.com{target}")
    assert parts.netloc == "api.example.com"
    assert [unquote(part) for part in parts.path.split("/")] == ["", "v1", "cities", city, "days", day]
    assert parse_qsl(parts.query, strict_parsing=True) == [("units", units), ("fixed", "1")]
    assert not parts.fragment


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *("255.255.255.255", "240.0.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::127.0.0.1", "2002:7f00:1::"),
        *("2001:0:4136:e378:8000:63bf:f5ff:fffe", "not an address", ""),
        *("64:ff9b:1:7f00:0:1:808:808", "fec0::1", "192.0.0.192", "::ffff:192.0.0.192"),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)
