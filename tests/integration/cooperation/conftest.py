"""The stage that these tests play on."""

from tests.integration.stage import server, upstream

__all__ = ["server", "upstream"]
