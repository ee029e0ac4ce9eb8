"""Legal event streams, however odd, are read; what is too large is not."""

import pytest

from open_autoglm.dialects.sse import LINE_BYTES_MAX, EventReader, ServerEvent


def read(*payloads: bytes, ends: bool = True) -> list[ServerEvent]:
    reader = EventReader()
    events = [event for payload in payloads for event in reader.feed(payload)]
    return events + (reader.end() if ends else [])


CASES = {
    "plain": (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
    "crlf": (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    "cr": (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
    "mixed": (b"data: a\n\rdata: b\r\n\ndata: c\r\r\n", [b"a", b"b", b"c"]),
    "no space": (b"data:a\n\n", [b"a"]),
    "two spaces": (b"data:  a\n\n", [b" a"]),
    "no value": (b"data\n\ndata:\n\n", [b"", b""]),
    "lines": (b"data: a\ndata:\ndata: b\n\n", [b"a\n\nb"]),
    "comments": (b": ping\n\n:\ndata: a\n: more\n\n", [b"a"]),
    "other fields": (b"id: 1\nretry: 5\nfoo: bar\nfoo\ndata: a\n\n", [b"a"]),
    "bom": (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
    "bom alone": (b"\xef\xbb\xbf\n\n", []),
    "second bom": (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
    "nothing": (b"\n\n\n", []),
    "unfinished": (b"data: a\n\ndata: b", [b"a", b"b"]),
    "one line feed short": (b"data: a\n\ndata: b\n", [b"a", b"b"]),
    "colon first": (b":data: a\n\n", []),
    "spaces before": (b" data: a\n\n", []),
    "bytes that are no text": (b"data: \xff\0\n\n", [b"\xff\0"]),
}


@pytest.mark.parametrize("name", CASES)
def test_forms(name: str) -> None:
    payload, expected = CASES[name]
    assert [data for _, data in read(payload)] == expected


@pytest.mark.parametrize("name", CASES)
def test_any_split_gives_the_same(name: str) -> None:
    payload, expected = CASES[name]
    assert [data for _, data in read(*(payload[at : at + 1] for at in range(len(payload))))] == expected
    for at in range(len(payload)):
        assert [data for _, data in read(payload[:at], payload[at:])] == expected


def test_names_belong_to_their_event() -> None:
    assert read(b"event: error\ndata: a\n\ndata: b\n\nevent: x\n\ndata: c\n\n") == [
        (b"error", b"a"),
        (b"", b"b"),
        (b"", b"c"),
    ]


def test_what_was_begun_elsewhere_has_no_mark() -> None:
    reader = EventReader(begun=True)
    assert reader.feed(b"\xef\xbb\xbfdata: a\n\n") == []


def test_idle_means_between_events() -> None:
    reader = EventReader()
    for payload, idle in ((b"", True), (b"d", False), (b"ata: a\n", False), (b"\n", True), (b"event: x\n", False)):
        reader.feed(payload)
        assert reader.idle is idle
    reader.feed(b"\r")
    assert not reader.idle  # a line feed may follow, and belongs to the carriage return
    assert reader.feed(b"\ndata: a\n\n") == [(b"", b"a")]


@pytest.mark.parametrize(
    "payload",
    [
        b"data: " + b"x" * (LINE_BYTES_MAX + 1),
        b": " + b"x" * (LINE_BYTES_MAX + 1) + b"\n",
        (b"data: " + b"x" * 1000 + b"\n") * (LINE_BYTES_MAX // 1000 + 1),
        b"data\n" * (LINE_BYTES_MAX + 1),
    ],
    ids=["line", "comment", "event", "empty lines"],
)
def test_size_is_limited(payload: bytes) -> None:
    reader = EventReader()
    events = reader.feed(b"data: a\n\n")
    for at in range(0, len(payload), 65_536):
        events += reader.feed(payload[at : at + 65_536])
    assert events == [(b"", b"a")]
    assert "1048576" in reader.failure
    assert not reader.idle
    assert (reader.feed(b"\n\ndata: b\n\n"), reader.end()) == ([], [])


def test_a_line_of_the_largest_size_is_read() -> None:
    data = b"x" * (LINE_BYTES_MAX - 7)
    assert read(b"data: " + data + b"\n\n") == [(b"", data)]
    assert read(b": " + b"y" * 100 + b"\n" * 3 + b"data: a\n\n") == [(b"", b"a")]


def test_a_flood_of_comments_keeps_nothing() -> None:
    reader = EventReader()
    for _ in range(2_000):
        assert reader.feed(b": " + b"x" * 1_000 + b"\n\n") == []
    assert reader.idle
