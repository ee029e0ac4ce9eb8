"""CPU and memory accounting: what `/proc` says, read right."""

import os

import pytest
from benchmarks.rig import accounting
from benchmarks.rig.accounting import ProcessTimes, parse_core_times, parse_rollup, parse_stat, tree

STAT = "812 (a (b) c) S 7 812 812 0 -1 4194560 100 200 0 0 31 17 5 2 20 0 4 0 5000 1000000 300 18446744073709551615"


def test_stat_counts_own_and_waited_for_children_and_survives_brackets_in_the_name() -> None:
    assert parse_stat(STAT) == ProcessTimes(pid=812, parent_pid=7, ticks=31 + 17 + 5 + 2)


@pytest.mark.parametrize("text", ["", "812", "812 (name)", "812 (name) S 7 1 1", ") 812 ("])
def test_a_broken_stat_line_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a /proc/PID/stat line"):
        parse_stat(text)


def test_tree_holds_all_descendants_and_nobody_else() -> None:
    processes = {pid: ProcessTimes(pid, parent, 1) for pid, parent in {1: 0, 5: 1, 6: 5, 7: 6, 8: 1, 9: 8}.items()}
    assert {process.pid for process in tree(processes, 5)} == {5, 6, 7}
    assert tree(processes, 99) == []


def test_cpu_time_of_this_process_grows_with_work() -> None:
    before_s = accounting.cpu_seconds(os.getpid())
    total = 0
    for _ in range(100):
        if accounting.cpu_seconds(os.getpid()) > before_s:
            break
        total += sum(range(200_000))
    assert accounting.cpu_seconds(os.getpid()) > before_s


def test_cpu_time_of_no_process_is_an_error() -> None:
    with pytest.raises(ProcessLookupError, match="look into the target's log"):
        accounting.cpu_seconds(2**22 + 1)


def test_rollup_sizes_are_bytes() -> None:
    text = "55d0-7ffd ---p 00000000 00:00 0    [rollup]\nRss: 1204 kB\nPss: 600 kB\nAnonymous: 300 kB\nSwap: 0 kB\n"
    memory = parse_rollup(text)
    assert (memory.resident_bytes, memory.proportional_bytes, memory.anonymous_bytes) == (
        1204 * 1024,
        600 * 1024,
        300 * 1024,
    )


def test_memory_of_this_process_is_plausible() -> None:
    memory = accounting.memory(os.getpid())
    assert 0 < memory.anonymous_bytes < memory.resident_bytes < 2**35


def test_core_times_leave_idle_and_waiting_out() -> None:
    text = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 4 800 1600 8 16 32 0 0\ncpu1 0 0 0 5 0 0 0 0 0 0\nintr 5\n"
    times = parse_core_times(text, 0)
    assert (times.busy_ticks, times.stolen_ticks) == (1 + 2 + 4 + 8 + 16, 32)
    assert parse_core_times(text, 1).busy_ticks == 0
    with pytest.raises(ValueError, match="no core 7"):
        parse_core_times(text, 7)
