"""TLS contexts of the listener and of upstream connections. 1.2 at least, certificates always checked."""

from __future__ import annotations

import functools
import ssl

from open_autoglm.errors import ConfigError, ConfigProblem
from open_autoglm.transport.settings import TlsFiles


def listener_context(files: TlsFiles) -> ssl.SSLContext | None:
    """Build the listener's context, or None when TLS is off.

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
def upstream_context(ca: str | None) -> ssl.SSLContext:
    """Build the context for https endpoints.

    Args:
        ca: file of the authorities to trust; the system's when None.

    Raises:
        ConfigError: the file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError("models", [ConfigProblem("models[].ca", 0, f"cannot use {ca!r}: {error}")]) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
