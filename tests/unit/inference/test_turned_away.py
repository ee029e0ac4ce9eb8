"""A peer that is turned away each second is one line a minute."""

from __future__ import annotations

from open_autoglm.inference.turned_away import TurnedAway


def test_one_line_a_minute_for_each_address_and_reason() -> None:
    away = TurnedAway()
    lines = [away.line("10.0.0.1", "wrong key", float(second)) for second in range(121)]
    assert [bool(line) for line in lines] == [second % 60 == 0 for second in range(121)]
    assert lines[0] == "a peer at 10.0.0.1 was turned away: wrong key"
    assert "59 times more" in lines[60]
    assert away.line("10.0.0.2", "wrong key", 121.0)
    assert away.line("10.0.0.1", "another", 121.0)


def test_many_addresses_take_bounded_room() -> None:
    away = TurnedAway()
    assert all(away.line(f"10.0.{n >> 8}.{n & 255}", "wrong key", 1.0) for n in range(1000))
    assert not away.line("10.0.3.231", "wrong key", 2.0), "the last is remembered"
    assert away.line("10.0.0.0", "wrong key", 2.0), "the first is not"
