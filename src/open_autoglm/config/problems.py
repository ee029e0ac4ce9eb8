"""The problems of one configuration, collected: where each value stands, and what is wrong with it."""

from dataclasses import dataclass, field
from typing import NamedTuple

from open_autoglm.errors import ConfigProblem

PROBLEMS_MAX = 100
"""Listed; the rest is counted, since nobody reads more and a hostile file could hold a hundred thousand."""


class Place(NamedTuple):
    """Where a value was written.

    Attributes:
        line: of its key, counted from 1; 0 outside a file.
        origin: the environment variable that it comes from, else empty.
    """

    line: int
    origin: str


@dataclass(slots=True)
class Problems:
    """Everything that is wrong, and the place of every value that was written.

    Attributes:
        places: path of each value that was written -> its place.
        bad: paths of values that were refused; checks that need them keep silent.
        found: the problems, at most `PROBLEMS_MAX`.
        more: problems beyond those.
    """

    places: dict[str, Place] = field(default_factory=dict)
    bad: set[str] = field(default_factory=set)
    found: list[ConfigProblem] = field(default_factory=list)
    more: int = 0

    def add(self, path: str, message: str, *, place: Place | None = None) -> None:
        """Record that the value at `path` is wrong; its place is looked up when it is not given."""
        self.bad.add(path)
        if self.full:
            self.more += 1
            return
        line, origin = place or self._nearest_place(path)
        if origin:
            message = f"{message} (from the environment variable {origin})"
        self.found.append(ConfigProblem(path, line, message))

    @property
    def full(self) -> bool:
        """Whether further problems are only counted."""
        return len(self.found) >= PROBLEMS_MAX

    def written(self, path: str) -> bool:
        """Whether something was written at `path`, right or wrong."""
        return path in self.places

    def listed(self) -> list[ConfigProblem]:
        """All problems in the order of their lines, and the number of those that were not kept."""
        ordered = sorted(self.found, key=lambda problem: problem.line or 1 << 30)
        if self.more:
            ordered.append(ConfigProblem("", 0, f"and {self.more} more problems"))
        return ordered

    def _nearest_place(self, path: str) -> Place:
        """Place of the value, or of the section around it when the value itself was not written."""
        while path:
            place = self.places.get(path)
            if place is not None:
                return place
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return Place(0, "")
