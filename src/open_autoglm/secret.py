"""A value that must not be shown: it prints as `***` wherever it goes."""

import hmac


class Secret:
    """A secret text. Only `reveal` gives it away, so each use can be found by searching for that word.

    Args:
        value: the secret; never empty.
        origin: where it came from (`env UPSTREAM_TOKEN`, `file`, `value`), for messages.
    """

    __slots__ = ("_value", "origin")

    def __init__(self, value: str, origin: str = "value") -> None:
        self._value = value
        self.origin = origin

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))
