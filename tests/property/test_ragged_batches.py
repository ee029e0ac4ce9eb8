"""Rows of a batch: whatever lengths share a pass, and wherever a row is moved, it is told what it is told alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from open_autoglm.engines.onnx_model import open_onnx

TINY = open_onnx(Path(__file__).parents[1] / "data" / "onnx" / "tiny-glm", "tiny", threads=1)
ATOL = 1e-4  # logits reach 8; rounding differs with the shape of a product

token = st.integers(0, TINY.graph.vocabulary - 1)
prompts = st.lists(st.lists(token, min_size=1, max_size=40), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(prompts, st.lists(st.integers(0, 4), max_size=6))
def test_each_row_is_told_what_it_is_told_alone(batch: list[list[int]], leaving: list[int]) -> None:
    cache = TINY.new_cache(len(batch))
    rows = [list(prompt) for prompt in batch]
    split = 1 + len(batch) // 2  # some join while the others are being answered
    logits = [TINY.prefill(cache, 0, rows[:split])]
    if rows[split:]:
        logits.append(TINY.prefill(cache, split, rows[split:]))
    check(rows, np.concatenate(logits))
    for leave in leaving:
        if leave < len(rows) > 1:
            last = rows.pop()
            if leave < len(rows):
                cache.move(len(rows), leave, len(last))
                rows[leave] = last
        tokens = np.array([1 + len(row) % 600 for row in rows])
        told = TINY.decode(cache, tokens, np.array([len(row) for row in rows]))
        for row, chosen in zip(rows, tokens.tolist(), strict=True):
            row.append(chosen)
        check(rows, told)


@settings(max_examples=40, deadline=None)
@given(st.lists(token, min_size=2, max_size=60), st.data())
def test_a_kept_beginning_is_as_good_as_reading_it(prompt: list[int], data: st.DataObject) -> None:
    start = data.draw(st.integers(1, len(prompt) - 1))
    cache = TINY.new_cache(3)
    TINY.prefill(cache, 0, [prompt])
    cache.restore(2, cache.save(0, start), start)
    check([prompt], TINY.prefill(cache, 2, [prompt], start))


def check(rows: list[list[int]], logits: np.ndarray) -> None:
    for row, told in zip(rows, logits, strict=True):
        assert np.allclose(told, TINY.prefill(TINY.new_cache(1), 0, [row])[0], atol=ATOL)
