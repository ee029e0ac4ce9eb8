"""Spreading 64-bit numbers evenly, the same in every process and version."""

_MASK = 2**64 - 1
_ODD_1 = 0x9E3779B97F4A7C15
_ODD_2 = 0xD6E8FEB86659FD93


def spread(number: int) -> int:
    """Mix the bits of a number: neighbours end up far apart. One to one on 64 bits."""
    number = (number * _ODD_1) & _MASK
    number ^= number >> 32
    number = (number * _ODD_2) & _MASK
    return number ^ (number >> 32)
