"""Bodies that are not quite JSON, or too much of it, are refused; everything else is let through."""

import pytest

from open_autoglm.dialects.chat import ChatFace
from open_autoglm.dialects.document import DEPTH_MAX, NODES_MAX, integers, skeleton, spans
from open_autoglm.errors import RequestError
from tests.unit.dialects.wire import body, chat_request

FACE = ChatFace()
PADDING = "lorem ipsum " * 1_000
START = b'{"model":"m","messages":[{"role":"user","content":"hi"}]'


def refusal(data: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        FACE.read(data)
    return caught.value


@pytest.mark.parametrize("padding", ["", PADDING], ids=["small", "large"])
@pytest.mark.parametrize(
    "rest",
    [
        b',"x":NaN}',
        b',"x":-Infinity}',
        b',"x":1e400}',
        b',"x":01}',
        b',"x":"\\ud800"}',
        b',"x":"\\udc00\\ud800"}',
        b',"x":"a\xffb"}',
        b',"x":"a\xed\xa0\x80b"}',
        b',"x":"a\nb"}',
        b',"x":"\\q"}',
        b',"x":1,}',
        b',"x":[1,2}',
        b"}{}",
        b'} "more"',
        b"",
    ],
)
def test_what_is_not_json_is_refused(rest: bytes, padding: str) -> None:
    data = START.replace(b'"hi"', body("hi" + padding)) + rest
    error = refusal(data)
    assert (error.code, error.http_status) == ("invalid_request", 400)
    assert "1e400" not in error.message


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b'"x"', b"\xef\xbb\xbf{}", b"\xff\xfe{\0}\0", b"{", b"\0"])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    assert refusal(data).code == "invalid_request"


def test_numbers_out_of_range_are_refused_in_fields_that_are_not_read() -> None:
    assert refusal(START + b',"custom":{"deep":[1e999]}}').http_status == 400


def nested(levels: int) -> bytes:
    return b'"x":' + b"[" * levels + b"]" * levels


@pytest.mark.parametrize("padding", ["", PADDING], ids=["small", "large"])
def test_depth_is_limited(padding: str) -> None:
    start = START.replace(b'"hi"', body("hi" + padding)) + b","
    assert FACE.read(start + nested(DEPTH_MAX - 1) + b"}").model == "m"
    assert "deeper" in refusal(start + nested(DEPTH_MAX) + b"}").message
    assert "deeper" in refusal(start + nested(50_000) + b"}").message


def test_depth_within_messages_counts() -> None:
    deep = b'{"a":' * 70 + b"1" + b"}" * 70
    assert "deeper" in refusal(b'{"model":"m","messages":[{"role":"user","content":' + deep + b"}]}").message


def test_brackets_in_strings_are_no_depth() -> None:
    for text in ("[" * 500, '\\"[{' * 100, "{\\\\" * 100, "[" * 10_000):
        request = chat_request(messages=[{"role": "user", "content": text}])
        assert FACE.read(body(request)).model == "chat"


def test_many_flat_values_are_no_depth() -> None:
    messages = [{"role": "user", "content": f'say "{number}" [{{'} for number in range(300)]
    assert FACE.read(body(chat_request(messages=messages))).model == "chat"


def test_nodes_are_limited() -> None:
    assert FACE.read(body(chat_request(x=[1] * (NODES_MAX - 100)))).model == "chat"
    assert "values" in refusal(body(chat_request(x=[1] * (NODES_MAX + 100)))).message
    assert "values" in refusal(body(chat_request(x=[""] * (5 * NODES_MAX)))).message


def test_commas_in_strings_are_no_nodes() -> None:
    assert FACE.read(body(chat_request(x=", " * 2 * NODES_MAX))).model == "chat"


@pytest.mark.parametrize("padding", ["", PADDING], ids=["small", "large"])
@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        (b'"model":"a"', b'"model":"b"', "model"),
        (b'"model":"a"', b'"model":"a"', "model"),
        (b'"stream":true', b'"stream":null', "stream"),
        (b'"n":8', b'"n":null', "n"),
        (b'"model":"a"', b'"mod\\u0065l":"b"', "model"),
        (b'"mod\\u0065l":"a"', b'"model":"b"', "model"),
        (b'"model":"a"', b'"m\\u006Fdel" :\n"b"', "model"),
    ],
)
def test_a_field_that_is_read_comes_once(first: bytes, second: bytes, name: str, padding: str) -> None:
    rest = b'"messages":' + body([{"role": "user", "content": "hi" + padding}])
    for data in (
        b"{" + first + b"," + second + b"," + rest + b"}",
        b"{" + first + b"," + rest + b"," + second + b"}",
        b"{" + rest + b" , " + first + b" , " + second + b" }",
    ):
        error = refusal(data)
        assert error.param == name
        assert "twice" in error.message


@pytest.mark.parametrize("padding", ["", PADDING], ids=["small", "large"])
def test_messages_come_once_wherever_they_hide(padding: str) -> None:
    real = body([{"role": "user", "content": "hi" + padding}])
    for data in (
        b'{"model":"m","messages":[],"messages":' + real + b"}",
        b'{"model":"m","messages":' + real + b',"messages":' + real + b"}",
        b'{"metadata":{"messages":' + real + b'},"model":"m","messages":[1],"messages":' + real + b"}",
    ):
        assert refusal(data).param == "messages"


@pytest.mark.parametrize("padding", ["", PADDING], ids=["small", "large"])
def test_names_within_values_are_no_repetition(padding: str) -> None:
    request = chat_request(
        messages=[{"role": "user", "content": 'the "model" and "messages" and \\"model\\"' + padding}],
        metadata={"model": "other", "messages": "none", "n": 1},
        tools=[{"type": "function", "function": {"name": "stream", "parameters": {"model": 1}}}],
    )
    assert FACE.read(body(request)).model == "chat"


def test_escaped_letters_outside_names_are_fine() -> None:
    assert FACE.read(START + b',"x":"\\u0041\\u00e9\\u4e2d\\ud83d\\ude00"}').model == "m"


def test_spans_point_at_values() -> None:
    data = b' { "model" : "a" ,\n"n":2,"a\\"b":{"model":"x"} ,"z":[1, 2] } '
    found = {name: data[begin:end] for name, (begin, end) in spans(data).items()}
    assert found == {"model": b'"a"', "n": b"2", 'a"b': b'{"model":"x"}', "z": b"[1, 2]"}
    assert spans(b"{}") == {}


def test_too_many_fields_are_not_walked() -> None:
    data = b'{"mod\\u0065l":"a",' + b",".join(b'"f%d":1' % number for number in range(2_000)) + b"}"
    with pytest.raises(RequestError, match="fields"):
        spans(data)


@pytest.mark.parametrize("quotes", [1, 400])
def test_the_skeleton_holds_no_strings(quotes: int) -> None:
    data = body({"a": ['"[\\' for _ in range(quotes)], "b": {"c": "]}"}})
    assert skeleton(data, b"") == b"[[][]]"
    assert skeleton(data, b",").count(b",") == quotes


def test_integers_are_seen_as_written() -> None:
    assert list(integers(b'{"a":123456789012345678901234567890,"b":["1",-2.5e3]}')) == [
        b"123456789012345678901234567890",
        b"-2.5e3",
    ]


@pytest.mark.parametrize("between", [",", ", "])
def test_flat_bodies_are_told_from_deep_ones_that_look_flat(between: str) -> None:
    flat = between.join('{"role":"user","content":"hi"}' for _ in range(200))
    assert FACE.read(b'{"model":"m","messages":[%s]}' % flat.encode()).model == "m"
    deep = '{"a":' * 70 + "1" + "}" * 70
    for hidden in (deep, f'{{"role":"user","x":"{"},{" * 500}","y":{deep}}}', f'{{"role":[{flat},{deep}]}}'):
        error = refusal(b'{"model":"m","messages":[%s]}' % f"{flat}{between}{hidden}".encode())
        assert "deeper" in error.message
