"""docs/protocol.md says what the code says."""

import re
from pathlib import Path

from open_autoglm.errors import CODES
from open_autoglm.protocol import opcodes
from open_autoglm.protocol.preambles import DTYPES, FINISHES

PAGE = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text(encoding="utf-8")


def test_every_opcode_and_flag_is_on_the_page() -> None:
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", PAGE, re.MULTILINE)
    assert {int(number): name for number, name in rows} == opcodes.NAMES
    flags = re.findall(r"^\| (0x\d\d) \| ([A-Z_]+) \|", PAGE, re.MULTILINE)
    assert {int(bit, 16): name for bit, name in flags} == opcodes.FLAG_NAMES


def test_every_error_is_on_the_page_with_its_status() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d{3})[^|]*\| (yes|no) \|$", PAGE, re.MULTILINE)
    said = {code: (int(status), retryable == "yes") for code, status, retryable in rows}
    assert said == {code: (meant.http_status, meant.retryable) for code, meant in CODES.items()}


def test_numbers_of_words_are_on_the_page() -> None:
    assert ", ".join(f"{number} {word}" for number, word in enumerate(DTYPES)) in PAGE
    assert ", ".join(f"{number} {word}" for number, word in enumerate(FINISHES) if word) in PAGE
