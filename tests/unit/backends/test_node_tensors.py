"""Room for tensors: what is kept is accounted for, has a limit, and is given back once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.backends.node_tensors import TENSORS_MAX, Parcel, TensorRoom
from open_autoglm.errors import AutoGLMError
from open_autoglm.protocol.arrays import write_array

STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["add", "keep", "release"]), st.integers(0, 60)), max_size=60
)


def tensor(name: str, size: int) -> bytes:
    return write_array(name, np.zeros(size, np.uint8))


def is_taken(parcel: Parcel, what: str, payload: bytes) -> bool:
    """Add a tensor, or account for its bytes; whether there was room."""
    try:
        parcel.add(payload) if what == "add" else parcel.keep(len(payload))
    except AutoGLMError:
        return False
    return True


@given(STEPS)
def test_what_is_kept_is_what_is_accounted_for(steps: list[tuple[int, str, int]]) -> None:
    server = TensorRoom(300)
    rooms = [TensorRoom(200, server), TensorRoom(200, server)]
    parcels = [Parcel(rooms[number % 2]) for number in range(4)]
    kept = [0] * 4
    for step, (number, what, size) in enumerate(steps):
        parcel = parcels[number]
        if what == "release":
            parcel.release()
            kept[number] = 0
        else:
            payload = tensor(str(step), size)
            others = sum(kept[number % 2 :: 2])
            room = others + len(payload) <= 200 and sum(kept) + len(payload) <= 300
            taken = is_taken(parcel, what, payload)
            assert taken == room or (what == "add" and not taken and len(parcel.asked) >= TENSORS_MAX)
            kept[number] += len(payload) if taken else 0
        assert server.used == sum(kept)
        assert [room.used for room in rooms] == [kept[0] + kept[2], kept[1] + kept[3]]
    for parcel in [*parcels, *parcels]:
        parcel.release()
    assert server.used == rooms[0].used == rooms[1].used == 0


def test_what_never_fits_is_told_apart_from_what_does_not_fit_now() -> None:
    room = TensorRoom(100)
    first, second = Parcel(room), Parcel(room)
    first.add(tensor("x", 50))
    for parcel, size, code in ((second, 60, "overloaded"), (second, 100, "request_too_large")):
        with pytest.raises(AutoGLMError) as caught:
            parcel.add(tensor("x", size))
        assert caught.value.code == code
    assert second.asked == []


def test_two_of_one_name_and_too_many_are_refused() -> None:
    parcel = Parcel(TensorRoom(1 << 20))
    for number in range(TENSORS_MAX):
        parcel.add(tensor(str(number), 1))
    for name, code in (("0", "invalid_request"), ("more", "request_too_large")):
        with pytest.raises(AutoGLMError) as caught:
            parcel.add(tensor(name, 1))
        assert caught.value.code == code
    assert len(parcel.asked) == TENSORS_MAX
    assert parcel.size == sum(map(len, parcel.asked))
