"""Checks of certificates: where they are asked for, what they are shown with, and for whom their names stand."""

import re
from collections.abc import Callable, Iterator

from open_autoglm.config.schema import ServerConfig
from open_autoglm.config.tree import shorten

_NAME = re.compile(r"(?:dns|uri):[\x21-\x7e]{1,253}")
_TLS_SCHEMES = ("https://", "mcps://")


def tls_problems(config: ServerConfig, path_of: Callable[[object], str]) -> Iterator[tuple[str, str]]:
    """Yield the path of each problem, and what it is.

    Args:
        config: finished.
        path_of: where a model or a key was written.
    """
    for model in config.models:
        path = path_of(model)
        if (model.client_cert is None) != (model.client_key is None):
            has, lacks = ("client_cert", "client_key") if model.client_key is None else ("client_key", "client_cert")
            yield f"{path}.{has}", f"needs `{lacks}` beside it"
        elif model.client_cert is not None and not model.endpoint.startswith(_TLS_SCHEMES):
            yield f"{path}.client_cert", "is for https:// and mcps:// endpoints; this one is not asked within TLS"
    tls = config.cluster.tls
    if tls is not None and (tls.cert is None) != (tls.key is None):
        has, lacks = ("cert", "key") if tls.key is None else ("key", "cert")
        yield f"cluster.tls.{has}", f"needs `cluster.tls.{lacks}` beside it"
    yield from _names(config, path_of)


def _names(config: ServerConfig, path_of: Callable[[object], str]) -> Iterator[tuple[str, str]]:
    owners: dict[str, str] = {}
    for key in config.auth.keys:
        for index, name in enumerate(key.certificates):
            path = f"{path_of(key)}.certificates[{index}]"
            if _NAME.fullmatch(name) is None:
                yield path, f"{shorten(name)} is no name of a certificate; write dns:NAME or uri:URI"
            elif config.tls.client_ca is None:
                yield path, "nobody is asked for a certificate; set `tls.client_ca`"
            elif name in owners:
                yield path, f"{shorten(name)} stands for the key {owners[name]!r} already"
            owners.setdefault(name, key.name)
