"""Draws `demo.svg`: runs `autoglm demo --once` on a terminal of its own and draws what it printed, with its colours.

.venv/bin/python docs/images/make_demo_picture.py

Nothing is retouched but one thing: of the key, which is good for that run only, the middle is left out, so that
nobody takes it for one that should be kept secret.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).parents[2]
PICTURE = Path(__file__).with_name("demo.svg")
COLUMNS = 72
RUN_S = 60
COMMAND = "autoglm demo --once"

DARK = ((24, 27, 33), (224, 108, 117), (152, 195, 121), (229, 192, 123), (97, 175, 239), (198, 120, 221))
THEME = TerminalTheme(
    (24, 27, 33),
    (214, 219, 229),
    [*DARK, (86, 182, 194), (171, 178, 191)],
    [(110, 118, 135), *DARK[1:], (86, 182, 194), (255, 255, 255)],
)

# Rich fills in the fields in single braces; fonts are the reader's own, since a picture should fetch nothing.
SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" xml:space="preserve">
<title>What autoglm demo prints</title>
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
<rect width="{width}" height="{height}" rx="10" fill="#181b21"/>
<g transform="translate({terminal_x}, 24)" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def run_demo() -> str:
    """Run the demo on a pseudo-terminal and return what it printed, escape codes included.

    Raises:
        SystemExit: the demo failed.
    """
    ours, its = pty.openpty()
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "src"),
        "TERM": "xterm-256color",
        "COLUMNS": str(COLUMNS),
        "LANG": "C.UTF-8",
    }
    words = [sys.executable, "-m", "mcp_server", *COMMAND.split()[1:]]
    demo = subprocess.Popen(words, stdout=its, stderr=its, stdin=its, env=environ, cwd=ROOT)  # noqa: S603 - our own program
    os.close(its)
    printed = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # how Linux says that nobody holds the other side any more
            break
        if not piece:
            break
        printed += piece
    os.close(ours)
    if demo.wait(RUN_S) != 0:
        raise SystemExit(f"the demo failed:\n{printed.decode(errors='replace')}")
    return printed.decode().replace("\r\n", "\n")


def shortened(printed: str) -> str:
    """Leave out the middle of the key."""
    return re.sub(r"(mcp_[0-9a-z]{6})[0-9a-z]{40,}([0-9a-z]{4})", r"\1…\2", printed)


def draw(printed: str) -> str:
    """Draw a terminal with the command and what it printed."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(Text.assemble(("$ ", "green"), (COMMAND, "bold")))
        console.print(Text.from_ansi(printed.rstrip("\n")))
        return console.export_svg(theme=THEME, code_format=SVG, unique_id="demo")


if __name__ == "__main__":
    PICTURE.write_text(draw(shortened(run_demo())), encoding="utf-8")
