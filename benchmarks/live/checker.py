"""Computes every token again with the version that the answer claims for it.

A token is right when it is the most likely one by that version, given the tokens before it. A batch of 32 and a batch
of one add in another order, so a token within `GAP` of the largest logit counts as a tie; ties are counted apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.live.streams import Stream
from open_autoglm.engines.step_model import StepModel

GAP = 1e-3
"""Largest logits are near 20; float32 sums of this length err by about 1e-5."""

OTHERS_EVERY = 4
"""Every so many streams are also computed with the version that lived beside theirs: it doubles the work."""


@dataclass
class Verdict:
    """What the checker found.

    Attributes:
        streams: that were checked.
        tokens: computed again, ends of answers included.
        wrong: that the claimed version does not choose.
        ties: chosen although another token's logit was larger by less than `GAP`.
        compared: tokens that were also computed with a version that lived at the same time.
        telling: of these, tokens that the other version would not have chosen.
        spans: answers that more than one version computed.
        versions: that computed at least one token.
    """

    streams: int = 0
    tokens: int = 0
    wrong: int = 0
    ties: int = 0
    compared: int = 0
    telling: int = 0
    spans: int = 0
    versions: int = 0


class Checker:
    """See the module.

    Args:
        model_of: gives a version, ready to compute.
        other_of: gives a version that lived beside it, to see whether the check can tell them apart; None if none did.
    """

    def __init__(self, model_of: Callable[[str], StepModel], other_of: Callable[[str], StepModel | None]) -> None:
        self._model_of = model_of
        self._other_of = other_of
        self._versions: set[str] = set()
        self.verdict = Verdict()

    def check(self, stream: Stream) -> None:
        """Check one stream that ended with its usage."""
        usage, verdict = stream.usage, self.verdict
        assert usage is not None
        verdict.streams += 1
        verdict.spans += bool(usage.spans)
        spans = [(s.version, s.start, s.end) for s in usage.spans] or [(usage.version, 0, usage.completion_tokens)]
        tokens = list(stream.tokens)
        ended = usage.completion_tokens - len(tokens)
        if ended not in (0, 1) or [s[1] for s in spans[1:]] != [s[2] for s in spans[:-1]]:
            verdict.wrong += 1
            return
        for version, start, end in spans:
            model = self._model_of(version)
            self._versions.add(version)
            written = tokens[start:end] + ([next(iter(model.end_tokens))] if end > len(tokens) else [])
            told = [[*stream.prompt, *tokens[:at]] for at in range(start, end)]
            if not told:
                continue
            other = self._other_of(version) if verdict.streams % OTHERS_EVERY == 0 else None
            self._span(model, other, told, written)
        verdict.versions = len(self._versions)

    def _span(self, model: StepModel, other: StepModel | None, told: list[list[int]], written: list[int]) -> None:
        verdict = self.verdict
        logits = model.prefill(model.new_cache(len(told)), 0, told, 0)
        chosen = logits[np.arange(len(told)), written]
        gap = logits.max(axis=1) - chosen
        verdict.tokens += len(told)
        verdict.wrong += int((gap > GAP).sum())
        verdict.ties += int(((gap > 0) & (gap <= GAP)).sum())
        if other is not None:
            unlike = other.prefill(other.new_cache(len(told)), 0, told, 0)
            verdict.compared += len(told)
            verdict.telling += int((unlike.argmax(axis=1) != np.array(written)).sum())
