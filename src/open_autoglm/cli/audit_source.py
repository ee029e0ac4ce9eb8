"""Where commands find the audit on this machine: a file that is named, else the one of the configuration.

| what | from, the first that is there |
|---|---|
| file | `--file`, `audit.file` of the configuration, `audit/audit.jsonl` in its `data_dir` |
| key | `--key-file`, `audit.key` of the configuration |
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from open_autoglm.cli.failure import CommandFailed
from open_autoglm.cli.keys import read_key
from open_autoglm.cli.terminal import Terminal

if TYPE_CHECKING:
    from open_autoglm.telemetry.run_record import RunRecord


@dataclass(frozen=True, slots=True)
class AuditSource:
    """The audit.

    Attributes:
        path: of its newest file.
        key: with which it is written; empty for none.
    """

    path: Path
    key: bytes


def add_source_options(parser: ArgumentParser, *, key: bool = False) -> None:
    """Add the options by which the audit is found, and `--json`."""
    found = parser.add_argument_group("the audit, on this machine")
    found.add_argument("--config", metavar="FILE", help="configuration of its server; says where it is")
    found.add_argument("--file", metavar="FILE", help="the newest of its files; default: the configuration's")
    if key:
        found.add_argument(
            "--key-file", metavar="PATH", help="file with the key it is written with; default: audit.key"
        )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def find_audit(arguments: Namespace, terminal: Terminal) -> AuditSource:
    """Find it; see the module.

    Raises:
        CommandFailed: there is none, or its key cannot be read.
        ConfigError: the configuration is wrong.
    """
    key_file = getattr(arguments, "key_file", None)
    key = b"" if key_file is None else read_key(key_file).reveal().encode()
    path = arguments.file
    if path is None or (key_file is None and arguments.config is not None):
        from open_autoglm.config import load_config

        config = load_config(arguments.config, terminal.environ, insecure=True).config
        settings = config.audit
        if path is None:
            path = settings.file or os.path.join(config.server.data_dir, "audit", "audit.jsonl")
        if key_file is None and settings.key is not None:
            key = settings.key.reveal().encode()
    if not Path(path).exists():
        raise CommandFailed(f"no audit at {path!r}; name its file with --file, or its server's --config")
    return AuditSource(Path(path), key)


def read_run(source: AuditSource, run: str) -> RunRecord:
    """Read one run.

    Raises:
        CommandFailed: it is not there, or cannot be read.
    """
    from open_autoglm.telemetry.audit_reader import find_run
    from open_autoglm.telemetry.run_record import record_of

    try:
        record = record_of(find_run(source.path, run))
    except ValueError as error:
        raise CommandFailed(f"the run {run!r} cannot be read: {error}; `autoglm audit verify` says more") from error
    if record is None:
        raise CommandFailed(f"no run {run!r} in {str(source.path)!r}; `autoglm audit show` lists the newest")
    return record
