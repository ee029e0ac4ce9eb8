"""Requests by the grammar of RFC 9110 to 9112, for comparing readers of them."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from open_autoglm.transport.http_request import KEPT_HEADERS

METHODS = [b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"PROPFIND", b"REPORT", b"TRACE"]
"""Methods that are registered; llhttp knows no others."""
_ALPHA = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_PATH_CHARACTERS = _ALPHA + "-._~!$&'()*+,;=:@/"
_TOKEN_CHARACTERS = _ALPHA + "!#$%&'*+-.^`|~"
_FRAMING = {"content-length", "transfer-encoding", "connection", "upgrade", "host", "expect"}

tokens = st.text(_TOKEN_CHARACTERS, min_size=1, max_size=20).map(str.encode)
_path_pieces = st.one_of(st.text(_PATH_CHARACTERS, max_size=12), st.sampled_from(["%20", "%e4%b8%ad", "%00", "%2F"]))
_paths = st.lists(_path_pieces, max_size=6).map(lambda pieces: "/" + "".join(pieces))
_queries = st.one_of(st.just(""), st.text(_PATH_CHARACTERS + "?", max_size=20).map(lambda query: "?" + query))
_origin_targets = st.builds(lambda path, query: (path + query).encode(), _paths, _queries)
targets = st.one_of(_origin_targets, _origin_targets.map(lambda target: b"http://host.test:8080" + target))
"""In origin form, or in absolute form."""

_visible = st.integers(0x21, 0x7E).map(lambda code: bytes((code,)))
_inner = st.one_of(_visible, st.sampled_from([b" ", b"\t", b"\xe9", b"\xff", b"\x80"]))
values = st.lists(_inner, max_size=30).map(b"".join).map(lambda value: value.strip(b" \t"))
"""Field values: visible characters, obs-text, blanks within."""
_blanks = st.sampled_from([b"", b" ", b"  ", b"\t", b" \t "])
_names = st.one_of(tokens, st.sampled_from([name.encode() for name in KEPT_HEADERS if name not in _FRAMING]))


@st.composite
def spelled(draw: st.DrawFn, name: bytes) -> bytes:
    """A name in any case."""
    return draw(st.sampled_from([name.lower(), name.title(), name.upper(), name.swapcase()]))


@dataclass(frozen=True)
class Framed:
    """A request on the wire.

    Attributes:
        data: its bytes.
        method: to know whether an answer has a body.
    """

    data: bytes
    method: bytes


@st.composite
def _other_lines(draw: st.DrawFn) -> list[bytes]:
    """Header lines that frame nothing; each kept one once."""
    seen: set[bytes] = set()
    lines = []
    for name in draw(st.lists(_names, max_size=6)):
        lower = name.lower()
        if lower.decode() in _FRAMING or (lower in seen and lower.decode() in KEPT_HEADERS):
            continue
        seen.add(lower)
        spelling = draw(spelled(name)) if lower.decode() in KEPT_HEADERS else name
        lines.append(spelling + b":" + draw(_blanks) + draw(values) + draw(_blanks))
    return lines


@st.composite
def _chunked(draw: st.DrawFn, body: bytes) -> bytes:
    """A body in chunks of any sizes, with extensions and trailers."""
    data = b""
    while body:
        size = draw(st.integers(1, len(body)))
        digits = draw(st.sampled_from([b"%x", b"%X", b"0%x"])) % size
        data += digits + draw(_extensions()) + b"\r\n" + body[:size] + b"\r\n"
        body = body[size:]
    trailers = b"".join(b"x-" + name + b": " + value + b"\r\n" for name, value in draw(_trailers))
    return data + b"0" + draw(_extensions()) + b"\r\n" + trailers + b"\r\n"


_trailers = st.lists(st.tuples(tokens, values), max_size=2)


@st.composite
def _extensions(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from(["none", "none", "name", "token", "quoted"]))
    if kind == "none":
        return b""
    name = b";" + draw(tokens)
    if kind == "name":
        return name
    value = draw(tokens) if kind == "token" else draw(st.sampled_from([b'""', b'"a b"', b'"\\""']))
    return name + b"=" + value


@st.composite
def requests(draw: st.DrawFn, *, last: bool = False) -> Framed:
    """A request; the last one says `connection: close`."""
    method = draw(st.sampled_from(METHODS))
    body = draw(st.one_of(st.just(b""), st.binary(max_size=200), st.binary(min_size=2000, max_size=3000)))
    lines = draw(_other_lines())
    lines.append(draw(spelled(b"host")) + b":" + draw(_blanks) + b"host.test")
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    if framing == "none":
        body = b""
    elif framing == "length":
        lines.append(draw(spelled(b"content-length")) + b":" + draw(_blanks) + b"%d" % len(body) + draw(_blanks))
    else:
        lines.append(draw(spelled(b"transfer-encoding")) + b": " + draw(st.sampled_from([b"chunked", b"Chunked"])))
        body = draw(_chunked(body))
    if last:
        lines.append(draw(spelled(b"connection")) + b": " + draw(st.sampled_from([b"close", b"Close", b"x, close"])))
    elif draw(st.booleans()):
        lines.append(b"connection: keep-alive")
    head = method + b" " + draw(targets) + b" HTTP/1.1\r\n" + b"\r\n".join(draw(st.permutations(lines))) + b"\r\n\r\n"
    return Framed(head + body, method)


@st.composite
def conversations(draw: st.DrawFn) -> list[Framed]:
    """Some requests, one after the other; the last one ends the connection."""
    return [*draw(st.lists(requests(), max_size=3)), draw(requests(last=True))]


@st.composite
def blocks_of(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The same bytes in blocks of any sizes."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=6)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True) if start < end]
