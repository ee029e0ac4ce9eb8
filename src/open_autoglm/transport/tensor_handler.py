"""Who hears of the tensors of one stream, beside its end; see `framed_session.StreamHandler`."""

from __future__ import annotations


class TensorHandler:
    """Base of stream handlers that take tensors; those that come to others are passed over."""

    __slots__ = ()

    def on_tensor(self, payload: bytes) -> None:
        """A tensor of the answer, whole. Must not raise or block."""
        raise NotImplementedError
