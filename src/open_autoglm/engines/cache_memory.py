"""The memory that an engine may use for keys and values.

Invariant: what is reserved for requests that run and what is kept of finished prompts never exceed the bound together;
what is kept makes way for what runs. A request reserves what it may need at its end, so it never runs out on its way.
"""

from __future__ import annotations

from typing import Any

from open_autoglm.engines.lane import Job
from open_autoglm.engines.prefix_store import Kept, PrefixStore
from open_autoglm.errors import RequestError


class CacheMemory:
    """Counts bytes; what it counts lies in the lanes' caches and in the store of prefixes.

    Args:
        bytes_max: of both; 0 for no bound.
        prefix_bytes_max: of what is kept of finished prompts; 0 keeps none.
    """

    __slots__ = ("bytes_max", "prefixes", "reserved_bytes")

    def __init__(self, bytes_max: int, prefix_bytes_max: int) -> None:
        if bytes_max < 0 or prefix_bytes_max < 0:
            raise ValueError(f"memory_max is {bytes_max!r}, prefix_bytes_max {prefix_bytes_max!r}; 0 or more")
        self.bytes_max = bytes_max
        self.reserved_bytes = 0
        self.prefixes = PrefixStore(prefix_bytes_max)

    @property
    def used_bytes(self) -> int:
        """Reserved and kept."""
        return self.reserved_bytes + self.prefixes.bytes

    def check(self, needed: int) -> None:
        """Raise when a request can never run.

        Raises:
            RequestError: `context_length_exceeded`.
        """
        if self.bytes_max and needed > self.bytes_max:
            raise RequestError(
                "context_length_exceeded",
                f"the request needs up to {needed} bytes for its keys and values, and the engine has "
                f"{self.bytes_max}; shorten the prompt or ask for fewer tokens",
            )

    def has_room(self, needed: int) -> bool:
        """Whether so many bytes are free, once enough of what is kept was dropped."""
        if not self.bytes_max:
            return True
        while self.used_bytes + needed > self.bytes_max:
            if not self.prefixes.drop_oldest():
                return False
        return True

    def find(self, job: Job) -> tuple[Any, int]:
        """What is kept of the beginning of a request's tokens, and of how many of them."""
        if not job.request.salt:
            return None, 0
        return self.prefixes.find((job.model.version, job.request.salt), job.tokens)

    def keep(self, job: Job) -> None:
        """Keep what the cache holds of a request that is complete, where there is room."""
        store = self.prefixes
        if not store.bytes_max or not job.request.salt or not job.model.reuses_prefix or job.lane is None:
            return
        key, tokens = (job.model.version, job.request.salt), job.tokens[: job.length]
        whole = store.wants(key, tokens)
        size_bytes = job.model.memory_bytes(whole)
        if not whole or size_bytes > store.bytes_max or not self.has_room(size_bytes):
            return
        saved = job.lane.cache.save(job.lane.rows.index(job), whole)
        store.keep(Kept(key, tokens[:whole], saved, size_bytes))
