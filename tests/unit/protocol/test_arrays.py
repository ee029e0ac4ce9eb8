"""Tensors as arrays: what is written is read again, where it lies when that is possible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from open_autoglm.errors import AutoGLMError
from open_autoglm.protocol.arrays import read_array, write_array
from open_autoglm.protocol.preambles import DTYPES, write_tensor

SENT = [name for name in DTYPES if name != "bfloat16"]


@given(
    st.text(max_size=60),
    st.sampled_from(SENT).flatmap(lambda name: arrays_of.arrays(name, arrays_of.array_shapes(min_dims=0, max_dims=8))),
    st.booleans(),
)
def test_what_is_written_is_read_again(name: str, array: np.ndarray, turned: bool) -> None:
    given_array = array.T if turned else array
    found, read = read_array(write_array(name, given_array))
    assert found == name
    assert (read.dtype, read.shape) == (given_array.dtype, given_array.shape)
    assert read.tobytes() == given_array.tobytes()


@pytest.mark.parametrize("dtype", SENT)
def test_elements_are_read_where_they_lie(dtype: str) -> None:
    elements = np.arange(6).astype(dtype).reshape(2, 3)
    payload = write_array("x" * 12, elements)  # they begin at a multiple of 8
    _, read = read_array(payload)
    assert np.array_equal(read, elements)
    assert not read.flags.owndata
    _, read = read_array(write_array("x" * 13, elements))
    assert np.array_equal(read, elements)
    assert read.flags.aligned


def test_bytes_of_another_order_are_turned() -> None:
    _, read = read_array(write_array("x", np.arange(3, dtype=">i4")))
    assert read.tolist() == [0, 1, 2]


@pytest.mark.parametrize("array", [np.zeros(1, np.complex64), np.zeros((1,) * 9), np.array(["text"])])
def test_what_has_no_form_on_the_wire_is_refused(array: np.ndarray) -> None:
    with pytest.raises(AutoGLMError) as caught:
        write_array("x", array)
    assert caught.value.code == "invalid_request"


@pytest.mark.parametrize("payload", [b"", b"\0\0\0", write_tensor("x", "bfloat16", (1,)) + b"12"])
def test_what_cannot_be_read_is_refused(payload: bytes) -> None:
    with pytest.raises(AutoGLMError) as caught:
        read_array(payload)
    assert caught.value.code == "invalid_request"
