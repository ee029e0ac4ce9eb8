"""TLS contexts of listeners and of outgoing connections. 1.2 at least, certificates always checked."""

from __future__ import annotations

import functools
import ssl
from typing import Final

from open_autoglm.errors import ConfigError, ConfigProblem
from open_autoglm.transport.settings import TlsClientFiles, TlsFiles

SHUTDOWN_S: Final = 2.0
"""How long a peer may take to say that it has heard the last word."""
_ALERTS: Final = {
    "CERTIFICATE_REQUIRED": "it asks for a certificate of ours, and was shown none",
    "BAD_CERTIFICATE": "it asks for a certificate of ours, and was shown none that it takes",
    "UNKNOWN_CA": "it does not know the authority that has signed our certificate",
    "CERTIFICATE_EXPIRED": "our certificate has expired",
    "WRONG_VERSION_NUMBER": "it does not speak TLS there",
    "HANDSHAKE_FAILURE": "it asks for a certificate of ours, or speaks no cipher that we do",
    "PROTOCOL_VERSION": "it speaks no version of TLS from 1.2 on",
}
"""By what OpenSSL's reason holds; the other side's alerts."""
_KINDS: Final = ("DNS", "URI")


def listener_context(files: TlsFiles) -> ssl.SSLContext | None:
    """Build a listener's context, or None when TLS is off.

    Raises:
        ConfigError: a file is missing or is not what it should be.
    """
    if files.cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(files.cert, files.key)
        if files.client_ca is not None:
            context.load_verify_locations(files.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        problem = ConfigProblem("tls", 0, f"cannot use cert {files.cert!r} with key {files.key!r}: {error}")
        raise ConfigError("tls", [problem]) from error
    context.set_alpn_protocols(["http/1.1"])
    return context


@functools.lru_cache(maxsize=64)
def upstream_context(files: TlsClientFiles) -> ssl.SSLContext:
    """Build the context for https and mcps endpoints. Its files are read once in the life of the process.

    Args:
        files: whom to trust, the system's authorities when none are named, and who we are.

    Raises:
        ConfigError: a file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=files.ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError("models", [ConfigProblem("models[].ca", 0, f"cannot use {files.ca!r}: {error}")]) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if files.cert is not None:
        try:
            context.load_cert_chain(files.cert, files.key)
        except (OSError, ssl.SSLError) as error:
            reason = f"cannot use {files.cert!r} with {files.key!r}: {error}"
            raise ConfigError("models", [ConfigProblem("models[].client_cert", 0, reason)]) from error
    return context


def tls_reason(error: BaseException | None) -> str:
    """Why a connection was not secured, in words; empty where that is not why it failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS failed: the other side's certificate is refused: {error.verify_message}"
    if not isinstance(error, ssl.SSLError):
        return ""
    reason = str(error.reason or "")
    told = next((text for word, text in _ALERTS.items() if word in reason), "")
    return f"TLS failed: {told or reason.lower().replace('_', ' ') or 'no reason was given'}"


def names_of(certificate: object) -> tuple[str, ...]:
    """The names of a checked certificate, as `dns:…` and `uri:…`, in its order.

    Args:
        certificate: what `getpeercert` has returned; anything else has none.
    """
    told = certificate.get("subjectAltName", ()) if isinstance(certificate, dict) else ()
    return tuple(f"{kind.lower()}:{name}" for kind, name in told if kind in _KINDS)
