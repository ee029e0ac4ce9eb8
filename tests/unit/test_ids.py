"""Ids are unique, of one length, and say nothing but their number."""

import re

from open_autoglm.ids import IdSource


def test_ids_stay_unique_where_a_block_of_them_ends() -> None:
    ids = IdSource("0123456789abcdef")
    requests, traces = zip(*[(ids.request_id(), ids.trace_id()) for _ in range(5000)], strict=True)
    assert all(re.fullmatch("req-0123456789abcdef[0-9a-f]{8}", each) for each in requests)
    assert all(re.fullmatch("0123456789abcdef[0-9a-f]{16}", each) for each in traces)
    numbers = [int(each[-8:], 16) for each in (*requests, *traces)]
    assert sorted(numbers) == list(range(1, 10_001))


def test_two_sources_make_different_ids() -> None:
    assert IdSource().trace_id() != IdSource().trace_id()
