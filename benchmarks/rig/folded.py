"""Reads folded stacks, as py-spy and perf's scripts write them: `outer;inner;innermost COUNT` per line."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """Samples in all, by the innermost function (`own`), and by every function on the stack (`whole`)."""

    samples: int
    own: Counter[str]
    whole: Counter[str]

    def lines(self, most: int) -> list[str]:
        """The `most` functions with the largest own share, as text: own %, whole %, name."""
        return [
            f"{count / self.samples:6.1%} {self.whole[name] / self.samples:6.1%}  {name}"
            for name, count in self.own.most_common(most)
        ]


def parse(text: str, waiting: tuple[str, ...] = ()) -> Profile:
    """Counts the samples of folded stacks; a function that stands twice on a stack counts once there.

    Args:
        text: the stacks.
        waiting: beginnings of the names of functions in which a thread only waits; stacks that end there are left out.

    Raises:
        ValueError: a line has no count.
    """
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    samples = 0
    for line in text.splitlines():
        if not line.strip():
            continue
        stack, _, number = line.rpartition(" ")
        if not stack or not number.isdigit():
            raise ValueError(f"not a folded stack: {line[:100]!r}")
        frames = stack.split(";")
        if waiting and frames[-1].startswith(waiting):
            continue
        count = int(number)
        samples += count
        own[frames[-1]] += count
        whole.update(dict.fromkeys(frames, count))
    return Profile(samples, own, whole)
