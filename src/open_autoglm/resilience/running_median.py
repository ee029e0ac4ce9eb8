"""A streaming estimate of the long-term median, in constant memory.

The first samples are kept and give the exact median. After that every sample moves the estimate by one small
multiplicative step towards itself: at the true median as many samples pull up as down, so it rests there
(the frugal estimator of Ma, Muthukrishnan and Sandler, 2013, in the logarithm). One step is so small that a
burst of slow calls cannot drag its own yardstick along.
"""

from bisect import insort

_EXACT_SAMPLES = 25
# 500 samples in a row on one side move the estimate by a factor of e.
_STEP = 1.002
# A product of steps could never leave zero.
_FLOOR = 1e-6


class RunningMedian:
    """Median of a stream of positive numbers.

    Attributes:
        value: the estimate, 0.0 before the first sample.
        count: samples seen.
    """

    __slots__ = ("_first", "count", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self.count = 0
        self._first: list[float] = []

    def add(self, sample: float) -> None:
        """Take one sample into account.

        Args:
            sample: > 0, of any unit.
        """
        self.count += 1
        if self.count <= _EXACT_SAMPLES:
            insort(self._first, sample)
            self.value = max(self._first[len(self._first) // 2], _FLOOR)
            if self.count == _EXACT_SAMPLES:
                self._first.clear()
        elif sample > self.value:
            self.value *= _STEP
        elif sample < self.value:
            self.value = max(self.value / _STEP, _FLOOR)
