"""Tells systemd how the service is: `sd_notify(3)` as datagrams, without a library.

Invariant: nothing here can stop the server; what cannot be sent is dropped. Without `NOTIFY_SOCKET` nothing is sent.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

from open_autoglm import clock


class Notifier:
    """The line to the service manager.

    Args:
        environ: where `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` are looked for.
        pid: our own.

    Attributes:
        watchdog_s: within which it wants to hear that we live; 0 when it does not.
    """

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(environ, pid) if self._address else 0.0

    @property
    def listened_to(self) -> bool:
        """Whether anybody wants to hear."""
        return bool(self._address)

    def ready(self, status: str) -> bool:
        """Start or reload is done."""
        return self._send("READY=1", f"STATUS={status}")

    def reloading(self, status: str) -> bool:
        """A reload begins; `ready` ends it, however it went."""
        return self._send("RELOADING=1", f"MONOTONIC_USEC={int(clock.monotonic() * 1e6)}", f"STATUS={status}")

    def stopping(self, status: str) -> bool:
        """The stop begins."""
        return self._send("STOPPING=1", f"STATUS={status}")

    def status(self, status: str) -> bool:
        """One line for `systemctl status`."""
        return self._send(f"STATUS={status}")

    def alive(self) -> bool:
        """Feed the watchdog."""
        return self._send("WATCHDOG=1")

    def replaced_by(self, pid: int, status: str) -> bool:
        """Another process is the service from now on; this one is not heard any more."""
        sent = self._send(f"MAINPID={pid}", "READY=1", f"STATUS={status}")
        self._address = ""
        return sent

    def _send(self, *lines: str) -> bool:
        """Send one message; say whether it was taken."""
        if not self._address:
            return False
        message = "\n".join(line.replace("\n", " ") for line in lines).encode()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.sendto(message, self._address)
        except OSError:
            return False
        return True


def _address(written: str) -> str:
    """A path, or an abstract name, which is written with `@`; empty for what we do not speak (vsock)."""
    if written.startswith("@"):
        return "\0" + written[1:]
    return written if written.startswith("/") else ""


def _watchdog_s(environ: Mapping[str, str], pid: int) -> float:
    """Seconds; 0 when the watchdog is off or meant for another process."""
    usec, meant = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not (usec.isascii() and usec.isdigit()) or (meant and meant != str(pid)):
        return 0.0
    return int(usec) / 1e6
