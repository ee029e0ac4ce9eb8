"""The tables of `docs/benchmarks.md`: which figures stand in them, and the sentence that says what was done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its title, where its figure comes from, and how it is shown."""

    title: str
    scenario: str
    figure: str
    scale: float
    digits: int
    spread: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table of all targets for one scenario, with the sentence that says what was done."""

    title: str
    text: str
    columns: tuple[Column, ...]


TABLES: Final = (
    Table(
        "Unary, 64 connections",
        "A request of 446 bytes, an answer of 629 bytes. CPU is user and system time of the gateway's whole "
        "process tree, divided by the requests that wrk"
        " counted. Memory is resident memory of the tree after this load, start is from the start of the "
        "process to the first answered request.",
        (
            Column("CPU µs/request", "unary", "cpu_per_request_s", 1e6, 1, spread=True),
            Column("requests/s", "unary", "requests_per_second", 1, 0),
            Column("p50 ms", "unary", "p50_s", 1e3, 2),
            Column("p99 ms", "unary", "p99_s", 1e3, 2),
            Column("memory MB", "unary", "resident_bytes", 1e-6, 0),
            Column("start s", "start", "first_answer_s", 1, 2),
        ),
    ),
    Table(
        "One connection",
        "The same request, one at a time. Added is the p50 minus the p50 without a gateway in the same round.",
        (
            Column("added p50 ms", "single", "added_p50_s", 1e3, 3, spread=True),
            Column("p50 ms", "single", "p50_s", 1e3, 3),
            Column("CPU µs/request", "single", "cpu_per_request_s", 1e6, 0),
        ),
    ),
    Table(
        "Prompts of 32 KiB, 64 connections",
        "The request is 32,768 bytes long, the answer as above.",
        (
            Column("CPU µs/request", "long", "cpu_per_request_s", 1e6, 1, spread=True),
            Column("requests/s", "long", "requests_per_second", 1, 0),
            Column("p50 ms", "long", "p50_s", 1e3, 2),
        ),
    ),
    Table(
        "Streams, paced",
        "64 events of 188 bytes, 10 ms apart, and an end with usage and `[DONE]`; every stream is checked for "
        "wholeness and order. CPU is divided by"
        " the 65 writes of a stream, so the request itself is in it.",
        (
            Column("CPU µs/chunk", "paced", "cpu_per_chunk_s", 1e6, 1, spread=True),
            Column("streams at once", "paced", "concurrent", 1, 0),
            Column("first chunk p50 ms", "paced", "first_p50_s", 1e3, 1),
            Column("whole stream p50 ms", "paced", "whole_p50_s", 1e3, 0),
            Column("bytes unchanged %", "paced", "exact_ratio", 100, 0),
        ),
    ),
    Table(
        "Streams, in one burst",
        "The same stream, written by the upstream all at once: what a gateway pays per event when it cannot "
        "keep up with single ones.",
        (
            Column("CPU µs/chunk", "burst", "cpu_per_chunk_s", 1e6, 2, spread=True),
            Column("chunks/s", "burst", "chunks_per_second", 1, 0),
            Column("streams at once", "burst", "concurrent", 1, 0),
        ),
    ),
    Table(
        "Idle connections",
        "Growth of the tree's own (anonymous) memory per connection, in bytes, after a tenth of the "
        "connections were there already. Unused ones have asked"
        " nothing, used ones have had one answer and stay open. The kernel's share is the same for all and not in it.",
        (
            Column("unused, bytes", "idle-unused", "bytes_per_connection", 1, 0),
            Column("used, bytes", "idle-used", "bytes_per_connection", 1, 0),
            Column("connections", "idle-used", "connections", 1, 0),
        ),
    ),
)
