"""Priority classes: what is given up first when not everything fits.

A class is a word in the configuration and on the wire and an int on the request path; a larger one goes first. Each
is refused when a limit is used up to its share, so that room is left for those above it. Names and order follow
Google's (Site Reliability Engineering, chapter 21).
"""

from typing import Final, Literal

Priority = Literal["sheddable", "sheddable_plus", "critical", "critical_plus"]
"""Background work, batches, interactive use (the default), and what keeps the service alive."""

NAMES: Final[tuple[Priority, ...]] = ("sheddable", "sheddable_plus", "critical", "critical_plus")
"""By number."""

SHEDDABLE: Final = 0
SHEDDABLE_PLUS: Final = 1
CRITICAL: Final = 2
CRITICAL_PLUS: Final = 3

SHARES: Final = (0.70, 0.85, 1.00, 1.10)
"""Of a limit; beyond it the class is refused."""

NUMBERS: Final[dict[str, int]] = {name: number for number, name in enumerate(NAMES)}


def rooms(limit: int) -> tuple[int, int, int, int]:
    """How much of a limit each class may use, at least 1."""
    first, second, third, fourth = (max(1, int(limit * share + 1e-9)) for share in SHARES)
    return first, second, third, fourth
