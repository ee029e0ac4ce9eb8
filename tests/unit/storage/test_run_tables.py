"""How the journal's file is opened: what its promises rest on."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from open_autoglm.storage.run_tables import open_database


def test_each_commit_is_on_the_disk_and_room_is_given_back(tmp_path: Path) -> None:
    for _ in range(2):  # made, then opened again
        with closing(open_database(tmp_path / "runs.db", busy_s=1.0, file_bytes=1024 * 1024)) as database:
            settings = {
                name: database.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "synchronous", "auto_vacuum", "max_page_count", "user_version")
            }
        assert settings == {
            "journal_mode": "wal",
            "synchronous": 2,  # FULL
            "auto_vacuum": 2,  # INCREMENTAL
            "max_page_count": 256,
            "user_version": 1,
        }
