"""Certificates of an authority that exists for one test, as files."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Files:
    """A certificate and its key."""

    cert: str
    key: str


class Authority:
    """Signs certificates.

    Args:
        folder: for the files.
        name: of the authority, for theirs.
    """

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._ca = trustme.CA()
        path = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(str(path))
        self.ca = str(path)

    def issue(self, *names: str, expired: bool = False) -> Files:
        """A certificate with these names; the first one names its files."""
        now = datetime.datetime.now(datetime.UTC)
        issued = self._ca.issue_cert(*names, not_after=now - datetime.timedelta(days=1) if expired else None)
        cert, key = (self._folder / f"{names[0]}-{expired}.{kind}.pem" for kind in ("cert", "key"))
        issued.private_key_pem.write_to_path(str(key))
        key.chmod(0o600)
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(str(cert), append=number > 0)
        return Files(str(cert), str(key))

    def context(self, files: Files | None = None) -> ssl.SSLContext:
        """What a client that trusts this authority uses; it shows a certificate if it has one."""
        context = ssl.create_default_context(cafile=self.ca)
        if files is not None:
            context.load_cert_chain(files.cert, files.key)
        return context
