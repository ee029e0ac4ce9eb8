"""A node process, as a shell starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[3]
START_S = 20.0


class Process:
    """A node process; `words` are more of its command line."""

    def __init__(self, *words: str, models: tuple[str, ...] = ("glm-nano=embedded:glm-nano", "echo=echo:")) -> None:
        options = [word for model in models for word in ("--model", model)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mcp_server", "node", *options, "--port", "0", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1"},
        )
        assert self.process.stdout is not None
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            if line.startswith(("echo ", "m ")):
                break
        found = re.search(r"mcps?://127\.0\.0\.1:(\d+)\nhealth and metrics on (http://\S+)", self.said)
        self.port, self.admin = (int(found[1]), found[2]) if found else (0, "")

    def get(self, path: str) -> tuple[int, str]:
        """Ask the admin listener."""
        with urllib.request.urlopen(self.admin + path, timeout=10) as answer:
            return answer.status, answer.read().decode()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; return the exit code and what was logged."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, logged = self.process.communicate(timeout=START_S)
        return self.process.returncode, logged
