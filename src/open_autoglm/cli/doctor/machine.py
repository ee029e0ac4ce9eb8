"""Can the server have its ports and its open files here, and is the clock right?"""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable

from open_autoglm import clock
from open_autoglm.cli.doctor.finding import Finding, fail, ok, warn

DESCRIPTORS_SPARE = 256
"""Open files besides connections: logs, libraries, listeners."""

CLOCK_FLOOR_S = 1_735_689_600.0
"""2025-01-01 UTC: this version was written later, so an earlier clock is wrong."""

SKEW_MAX_S = 60.0
"""Against the endpoints' clocks. Signed requests are refused beyond 300 s; a minute says that nobody sets the clock."""

_OURS = ("mcp_server", "autoglm")
_HOSTS = {"server.port": "server.host", "server.admin_port": "server.admin_host", "server.grpc_port": "server.host"}
"""Which setting has the host of a port; the others have both."""


def check_port(name: str, host: str, port: int, holder_of: Callable[[int], str]) -> Finding:
    """Check that an address can be listened on.

    Args:
        name: of the setting, as `server.port`.
        host: name or IP address.
        port: 0 is always free.
        holder_of: says which process listens on a port.
    """
    topic = f"port {port}"
    if port == 0:
        return ok(name, "the system chooses a free port")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as error:
        return fail(
            topic,
            f"{host!r} is no address of this machine: {error.strerror}",
            f"write an IP address in {_HOSTS.get(name, name)}",
        )
    except PermissionError:
        return fail(topic, "this user may not listen below 1024", f"set {name} to 1024 or above")
    except OSError as error:
        return _taken(topic, name, holder_of(port), error)
    return ok(topic, f"free ({name}, on {host})")


def _taken(topic: str, name: str, holder: str, error: OSError) -> Finding:
    if not holder:
        return fail(
            topic,
            f"cannot be had: {error.strerror}",
            f"set {name} to another port, or the host to an address of this machine",
        )
    if any(word in holder for word in _OURS):
        return warn(topic, f"a server of ours runs there: {holder}", "nothing, if that is the one you mean")
    return fail(topic, f"taken by {holder}", f"stop it, or set {name} to another port")


def check_open_files(soft: int, hard: int, connections_max: int) -> Finding:
    """Check that every connection can have its file descriptor, and one more to its endpoint.

    Args:
        soft, hard: the limits on open files.
        connections_max: `server.max_connections`.
    """
    needed = 2 * connections_max + DESCRIPTORS_SPARE
    if soft in (-1, resource.RLIM_INFINITY) or soft >= needed:
        return ok("open files", f"{soft if soft >= 0 else 'unlimited'} allowed, {needed} needed at most")
    fewer = max((soft - DESCRIPTORS_SPARE) // 2, 1)
    raise_it = f"run `ulimit -n {needed}` before the start" if hard < 0 or hard >= needed else "raise the hard limit"
    return warn(
        "open files",
        f"{soft} allowed, {connections_max} connections may need {needed}",
        f"{raise_it} (LimitNOFILE={needed} in a systemd unit), or set server.max_connections to {fewer}",
    )


def check_clock(wall_s: float, skews_s: dict[str, float]) -> Finding:
    """Check the clock against this version's age and against the clocks of endpoints.

    Args:
        wall_s: what this machine takes the time to be.
        skews_s: per endpoint, how far its clock is ahead of ours.
    """
    advice = "let chrony or systemd-timesyncd set it"
    if wall_s < CLOCK_FLOOR_S:
        return fail("clock", f"it says {clock.iso_utc(wall_s)}, which is in the past", advice)
    for endpoint, skew_s in skews_s.items():
        if abs(skew_s) > SKEW_MAX_S:
            side = "behind" if skew_s > 0 else "ahead of"
            return warn("clock", f"{clock.iso_utc(wall_s)}, {abs(skew_s):.0f} s {side} that of {endpoint}", advice)
    compared = f", as at {len(skews_s)} endpoint{'s' if len(skews_s) != 1 else ''}" if skews_s else ""
    return ok("clock", f"{clock.iso_utc(wall_s)}{compared}")


def open_file_limits() -> tuple[int, int]:
    """Return the soft and the hard limit on open files of this process."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)
