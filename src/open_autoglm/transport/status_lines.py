"""First lines of answers, by status: the registered ones (RFC 9110), and 529, which vendors of models use."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus} | {
    529: "HTTP/1.1 529 Overloaded\r\n"
}
