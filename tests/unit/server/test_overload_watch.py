import os
from pathlib import Path

import pytest

from open_autoglm.server.overload_watch import memory_max_bytes, open_descriptors


def system(root: Path, cgroup: str, **limits: str) -> Path:
    """A file system that tells of control groups; keys of `limits` are paths with `__` for a slash."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, limit in limits.items():
        file = root / "sys/fs/cgroup" / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(limit + "\n")
    return root


MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("cgroup", "limits", "expected"),
    [
        ("0::/a/b\n", {"a__b__memory.max": "1000000"}, 1_000_000),
        ("0::/a/b\n", {"a__b__memory.max": "max", "a__memory.max": "2000000"}, 2_000_000),
        ("0::/a/b\n", {"a__b__memory.max": "3000000", "a__memory.max": "2000000"}, 2_000_000),
        ("0::/\n", {"memory.max": "max"}, MACHINE),
        ("4:cpu,memory:/x\n3:pids:/x\n", {"memory__x__memory.limit_in_bytes": "5000000"}, 5_000_000),
        ("0::/gone\n", {}, MACHINE),
    ],
)
def test_the_lowest_limit_counts(tmp_path: Path, cgroup: str, limits: dict[str, str], expected: int) -> None:
    assert memory_max_bytes(system(tmp_path, cgroup, **limits)) == expected


def test_a_system_without_control_groups_has_its_memory(tmp_path: Path) -> None:
    assert memory_max_bytes(tmp_path) == MACHINE


def test_descriptors_are_counted(tmp_path: Path) -> None:
    before = open_descriptors()
    with (tmp_path / "a").open("w"), (tmp_path / "b").open("w"):
        assert open_descriptors() == before + 2
    assert before > 2
