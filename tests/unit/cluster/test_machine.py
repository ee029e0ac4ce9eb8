"""What Linux tells of processors and memory."""

from pathlib import Path

import pytest

from open_autoglm.cluster.machine import Machine

MEMINFO = "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 250 kB\n"


def root(folder: Path, ticks: str, meminfo: str = MEMINFO) -> Path:
    (folder / "proc").mkdir(exist_ok=True)
    (folder / "proc/stat").write_text(f"cpu {ticks}\ncpu0 1 1 1 1\n")
    (folder / "proc/meminfo").write_text(meminfo)
    return folder


def test_processors_are_those_since_the_reading_before(tmp_path: Path) -> None:
    machine = Machine(root(tmp_path, "10 0 10 70 10 0 0 0 5 5"))
    assert machine.read().cpu == pytest.approx(0.2)
    root(tmp_path, "60 0 10 120 10 0 0 0 5 5")
    assert machine.read().cpu == pytest.approx(0.5)
    assert machine.read().cpu == pytest.approx(0.5), "no time has passed"


def test_memory_is_what_can_be_had(tmp_path: Path) -> None:
    load = Machine(root(tmp_path, "1 0 1 1 1 0 0 0")).read()
    assert (load.memory_free, load.memory_free_bytes) == (0.25, 250 * 1024)


def test_the_limit_of_a_control_group_counts(tmp_path: Path) -> None:
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("102400\n")
    (group / "memory.current").write_text("92160\n")
    load = Machine(root(tmp_path, "1 0 1 1 1 0 0 0")).read()
    assert (load.memory_free, load.memory_free_bytes) == (pytest.approx(0.1), 10240)
    (group / "memory.max").write_text("max\n")
    assert Machine(tmp_path).read().memory_free == 0.25


def test_where_nothing_is_told_nothing_is_known(tmp_path: Path) -> None:
    assert Machine(tmp_path).read() == (0.0, 1.0, 0)
    assert Machine(root(tmp_path, "nonsense", "nonsense")).read() == (0.0, 1.0, 0)
