"""Keys and values of finished prompts, for the next one that begins in the same way.

Invariant: an entry is found under the version and the salt that it was kept under only, after its tokens were compared
one by one; the bytes of all entries stay within the bound, the one that was used longest ago going first. Entries begin
to be of use at whole blocks of tokens. Source of the block hashes: vLLM's prefix cache.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec import Struct

BLOCK_TOKENS: Final = 16

_Key = tuple[str, str]


class Kept(Struct, eq=False):
    """One entry.

    Attributes:
        key: version and salt.
        tokens: what was read, whole blocks.
        saved: what the cache's `save` returned.
        size_bytes: that it takes.
    """

    key: _Key
    tokens: list[int]
    saved: Any
    size_bytes: int


class PrefixStore:
    """Prefixes by what they begin with.

    Args:
        bytes_max: of all entries; 0 keeps nothing.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes = 0
        self.hits_total = 0
        self._entries: OrderedDict[int, Kept] = OrderedDict()  # by identity, the least used first
        self._blocks: dict[int, Kept] = {}  # hash of the blocks up to one of them

    def find(self, key: _Key, tokens: Sequence[int]) -> tuple[Any, int]:
        """Return what was saved for the longest known beginning of a prompt, and its length in tokens, 0 for none.

        At least one token of the prompt is left to be read.
        """
        if not self._entries:
            return None, 0
        found: Kept | None = None
        for block in _hashes(key, tokens[:-1]):
            entry = self._blocks.get(block)
            if entry is None:
                break
            found = entry
        if found is None or found.key != key:
            return None, 0
        same = _common(found.tokens, tokens[:-1])
        if not same:
            return None, 0
        self._entries.move_to_end(id(found))
        self.hits_total += 1
        return found.saved, same

    def wants(self, key: _Key, tokens: Sequence[int]) -> int:
        """Return how many of these tokens are worth keeping: whole blocks that are not known yet, else 0."""
        whole = len(tokens) - len(tokens) % BLOCK_TOKENS
        if not whole or not self.bytes_max:
            return 0
        *_, last = _hashes(key, tokens[:whole])
        return 0 if last in self._blocks else whole

    def keep(self, entry: Kept) -> None:
        """Keep an entry, if it is not larger than the bound; others go for it."""
        if entry.size_bytes > self.bytes_max:
            return
        while self.bytes + entry.size_bytes > self.bytes_max:
            self.drop_oldest()
        self._entries[id(entry)] = entry
        self.bytes += entry.size_bytes
        for block in _hashes(entry.key, entry.tokens):
            self._blocks[block] = entry

    def drop_oldest(self) -> bool:
        """Drop the entry that was used longest ago; say whether there was one."""
        if not self._entries:
            return False
        _, entry = self._entries.popitem(last=False)
        self.bytes -= entry.size_bytes
        for block in _hashes(entry.key, entry.tokens):
            if self._blocks.get(block) is entry:
                del self._blocks[block]
        return True


def _hashes(key: _Key, tokens: Sequence[int]) -> Iterator[int]:
    """Yield the hash of key and tokens up to the end of each whole block; two prefixes may share one by chance."""
    chain = hash(key)
    for end in range(BLOCK_TOKENS, len(tokens) + 1, BLOCK_TOKENS):
        chain = hash((chain, *tokens[end - BLOCK_TOKENS : end]))
        yield chain


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the common beginning in whole blocks."""
    same = 0
    for end in range(BLOCK_TOKENS, min(len(left), len(right)) + 1, BLOCK_TOKENS):
        if list(left[same:end]) != list(right[same:end]):
            break
        same = end
    return same
