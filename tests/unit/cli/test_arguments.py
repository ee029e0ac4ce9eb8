"""Values as they are typed."""

from argparse import ArgumentTypeError
from collections.abc import Callable

import pytest

from open_autoglm.cli.arguments import count, port_number, wait_s


def test_right_values() -> None:
    assert [port_number(text) for text in ("0", "8080", "65535")] == [0, 8080, 65535]
    assert [wait_s(text) for text in ("0.5", "86400", "1e3")] == [0.5, 86400.0, 1000.0]
    assert [count(text) for text in ("1", "999999999")] == [1, 999_999_999]


@pytest.mark.parametrize(
    ("read", "wrong"),
    [
        (port_number, ["-1", "65536", "http", "８０", "", "1.0"]),
        (wait_s, ["0", "-1", "nan", "inf", "1e9", "soon", ""]),
        (count, ["0", "-3", "1.5", "many", "", "9999999999"]),
    ],
)
def test_wrong_values_are_repeated_with_what_to_write(read: Callable[[str], object], wrong: list[str]) -> None:
    for text in wrong:
        with pytest.raises(ArgumentTypeError, match="write") as refused:
            read(text)
        assert repr(text) in str(refused.value)
