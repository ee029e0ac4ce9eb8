"""Load reports as 32 bytes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.membership.errors import GossipError
from open_autoglm.membership.load import LOAD_BYTES, LoadReport, is_news, read_load, write_load

shares = st.integers(0, 65535).map(lambda n: n / 65535)
loads = st.builds(
    LoadReport,
    cpu=shares,
    memory_free=shares,
    memory_free_bytes=st.integers(0, 2**64 - 1),
    batch_fill=shares,
    slots=st.integers(0, 65535),
    running=st.integers(0, 65535),
    queue=st.integers(0, 2**32 - 1),
    tokens_per_s=st.floats(0.0, 2.0**99, width=32),
    number=st.integers(0, 2**32 - 1),
)


@given(loads)
def test_what_is_written_is_read(load: LoadReport) -> None:
    data = write_load(load)
    assert len(data) == LOAD_BYTES
    assert read_load(data) == load


def test_the_bytes_are_those_of_the_layout() -> None:
    load = LoadReport(1.0, 0.0, 2**40, 0.0, slots=4, running=3, queue=7, tokens_per_s=1.0, number=9)
    assert write_load(load).hex() == "0100ffff00000000000400030000000700000009" + "3f800000" + "0000010000000000"


def test_figures_beyond_what_fits_are_the_most_that_does() -> None:
    wild = LoadReport(5.0, -1.0, 2**70, math.nan, slots=10**6, running=-1, queue=2**40, tokens_per_s=math.inf)
    read = read_load(write_load(wild))
    assert (read.cpu, read.memory_free, read.batch_fill) == (1.0, 0.0, 0.0)
    assert (read.slots, read.running, read.queue) == (65535, 0, 2**32 - 1)
    assert read.memory_free_bytes == 2**64 - 1
    assert read.tokens_per_s == 2.0**99


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "has 32 bytes, not 0"),
        (bytes(33), "has 32 bytes, not 33"),
        (bytes(32), "version 0"),
        (b"\x01" + bytes(19) + b"\x7f\xc0\x00\x00" + bytes(8), "no number"),
        (b"\x01" + bytes(19) + b"\xbf\x80\x00\x00" + bytes(8), "no number"),
        (b"\x01" + bytes(19) + b"\x7f\x00\x00\x00" + bytes(8), "no number"),
    ],
)
def test_what_is_no_report_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(GossipError, match=message):
        read_load(data)


@pytest.mark.parametrize(
    ("changed", "news"),
    [
        (LoadReport(cpu=0.52), False),
        (LoadReport(cpu=0.56), True),
        (LoadReport(cpu=0.5, running=1), True),
        (LoadReport(cpu=0.5, queue=1), True),
        (LoadReport(cpu=0.5, memory_free=0.9), True),
        (LoadReport(cpu=0.5, tokens_per_s=1.0), True),
        (LoadReport(cpu=0.5, number=8), False),
    ],
)
def test_noise_is_no_news(changed: LoadReport, news: bool) -> None:
    assert is_news(LoadReport(cpu=0.5), changed) is news
