"""The stage that these tests play on: each has a server of its own, since each ends it."""

from tests.integration.stage import upstream

__all__ = ["upstream"]
