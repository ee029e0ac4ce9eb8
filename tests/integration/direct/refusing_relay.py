"""A relay in front of a node that breaks connections whose first bytes have a word in them."""

from __future__ import annotations

from tests.integration.relay import Relay


class RefusingRelay(Relay):
    """See the module; use as a context.

    Args:
        port: of the node.
        word: that is not let through; empty lets everything through.

    Attributes:
        refused: connections that were broken.
    """

    def __init__(self, port: int, word: bytes) -> None:
        super().__init__(port)
        self.word = word
        self.refused = 0

    def admits(self, first: bytes) -> bool:
        refused = bool(self.word) and self.word in first
        self.refused += refused
        return not refused
