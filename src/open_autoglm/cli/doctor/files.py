"""Are the files there, are they what they should be, and is what is secret readable by its owner only?"""

from __future__ import annotations

import os
import ssl
import stat
from pathlib import Path

from open_autoglm import clock
from open_autoglm.cli.doctor.finding import Finding, fail, ok, warn
from open_autoglm.transport.settings import TlsFiles

EXPIRY_WARNED_S = 14 * 86_400.0
"""Before a certificate ends: time to get another one."""


def check_data_folder(path: Path) -> Finding:
    """Check that the server can keep its files, and that nobody else can read them."""
    topic = "data folder"
    if not path.exists():
        parent = next(each for each in path.absolute().parents if each.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            return ok(topic, f"{str(path)!r} will be made at the first start")
        return fail(
            topic, f"{str(path)!r} cannot be made in {str(parent)!r}", "set server.data_dir to a folder of your own"
        )
    if not path.is_dir():
        return fail(topic, f"{str(path)!r} is a file", "set server.data_dir to a folder")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return fail(
            topic,
            f"{str(path)!r} cannot be written",
            "set server.data_dir to a folder of your own, or change its owner",
        )
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        return warn(topic, f"others can look into {str(path)!r}", f"chmod 700 {str(path)!r}")
    return ok(topic, f"{str(path)!r} is writable, and nobody else's")


def check_admin_key(path: Path) -> list[Finding]:
    """Check the kept admin key, when there is one."""
    if not path.exists():
        return []
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        return [
            fail(
                "admin key",
                f"others can read {str(path)!r}",
                f"delete it; the next start makes another: rm {str(path)!r}",
            )
        ]
    return [ok("admin key", f"{str(path)!r} is its owner's only")]


def check_tls(files: TlsFiles, wall_s: float) -> list[Finding]:
    """Check the listener's certificate and key: readable, belonging together, not ended.

    Args:
        files: their paths.
        wall_s: now.
    """
    if files.cert is None:
        return []
    try:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(files.cert, files.key)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or getattr(error, "reason", "") or str(error)
        return [
            fail(
                "tls",
                f"cert {files.cert!r} with key {files.key!r} cannot be used: {reason}",
                "name a PEM file each in tls.cert and tls.key",
            )
        ]
    findings = [_check_expiry(server, files.cert, wall_s)]
    if files.key is not None and stat.S_IMODE(Path(files.key).stat().st_mode) & 0o077:
        findings.append(warn("tls", f"others can read the key {files.key!r}", f"chmod 600 {files.key!r}"))
    return findings


def _check_expiry(server: ssl.SSLContext, cert: str, wall_s: float) -> Finding:
    try:
        end_s = _certificate_end(server, cert)
    except ssl.SSLCertVerificationError as error:
        return fail("tls", f"clients will refuse the certificate {cert!r}: {error.verify_message}", "get another one")
    except (ssl.SSLError, OSError) as error:
        return warn("tls", f"the certificate {cert!r} could not be tried: {error}", "try it with a client")
    left_s = end_s - wall_s
    if left_s < EXPIRY_WARNED_S:
        return warn("tls", f"the certificate {cert!r} ends {clock.iso_utc(end_s)}", "get another one in time")
    return ok("tls", f"the certificate {cert!r} is good until {clock.iso_utc(end_s)}")


def _certificate_end(server: ssl.SSLContext, cert: str) -> float:
    """Return when a certificate ends, wall seconds. The standard library tells it in a handshake only: one in memory.

    Raises:
        ssl.SSLCertVerificationError: it has ended, or has not begun.
        ssl.SSLError: no handshake with it.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= (
        ssl.VERIFY_X509_PARTIAL_CHAIN
    )  # the certificate is trusted as it is; who signed it is not the question
    client.load_verify_locations(cert)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client.wrap_bio(to_client, to_server)
    there = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(8):  # a handshake takes three turns
        finished = [_turn(side) for side in (here, there)]
        if all(finished):
            break
    peer = here.getpeercert()
    if not peer:
        raise ssl.SSLError("the handshake did not end")
    return float(ssl.cert_time_to_seconds(str(peer["notAfter"])))


def _turn(side: ssl.SSLObject) -> bool:
    """Take one turn of a handshake; return whether this side has finished."""
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
