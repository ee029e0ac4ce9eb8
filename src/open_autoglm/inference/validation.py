"""Whether a version may become visible: its bytes, its numbers, and what it answers.

Invariant: nothing here touches the version that serves; whatever is found is raised as `UpdateRefused` before anybody
could have been answered by the new version.

| check | refuses |
|---|---|
| bytes | a tensor, the whole or the configuration is not what the manifest names (`hash`) |
| numbers | a weight is NaN or infinite (`not_finite`) |
| loading | the engine cannot use it: other tensors, other shapes, other sizes (`format`) |
| golden prompts | one is answered otherwise than the manifest, or the node's own list, says (`golden`) |
| drift | the distribution of the next token moved too far from that of the serving version (`drift`) |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from open_autoglm.engines import sampling
from open_autoglm.engines.events import GenerateRequest, TextDelta
from open_autoglm.engines.step_model import Prompt, StepModel
from open_autoglm.errors import AutoGLMError
from open_autoglm.inference.model_store import StoredVersion
from open_autoglm.rollout.manifest import GoldenPrompt
from open_autoglm.rollout.refusal import UpdateRefused

ANSWER_TOKENS_MAX: Final = 256
PROBED_TOKENS: Final = 16
_FINITE_BYTES: Final = 8 << 20

Loader = Callable[[StoredVersion], StepModel]
"""Makes a version ready to compute; raises an `AutoGLMError` when it cannot."""


class ValidationRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a node asks of every version, beside what the manifest says.

    Attributes:
        golden: questions that every version must answer so.
        probes: texts on which the new version is compared with the serving one; golden prompts count too.
        drift_max: most that the next token's distribution may have moved, as total variation, averaged over the
            first 16 tokens of the serving version's answers; 0 to 1. 1 allows everything.
    """

    golden: tuple[GoldenPrompt, ...] = ()
    probes: tuple[str, ...] = ()
    drift_max: float = 0.25


def validate(stored: StoredVersion, loader: Loader, serving: StepModel | None, rules: ValidationRules) -> StepModel:
    """Check a version, and make it ready to compute.

    Args:
        stored: the version.
        loader: of its kind of model.
        serving: the version that answers now, if there is one.
        rules: of this node.

    Raises:
        UpdateRefused: see the module.
    """
    stored.verify()
    check_finite(stored)
    try:
        model = loader(stored)
    except UpdateRefused:
        raise
    except (AutoGLMError, ValueError, KeyError, TypeError) as error:
        raise UpdateRefused("format", f"the engine cannot use the version: {error}") from error
    golden = (*stored.manifest.golden, *rules.golden)
    check_golden(model, golden)
    if serving is not None:
        check_drift(model, serving, [each.prompt for each in golden] + list(rules.probes), rules.drift_max)
    return model


def check_finite(stored: StoredVersion) -> None:
    """Refuse (`not_finite`) weights that are NaN or infinite: all bits of an exponent set."""
    for place in stored.manifest.places():
        if place.dtype not in ("F16", "BF16", "F32"):
            continue
        for at in range(place.start, place.end, _FINITE_BYTES):
            data = stored.read(at, min(at + _FINITE_BYTES, place.end))
            if place.dtype == "BF16":
                finite = (np.frombuffer(data, "<u2") & 0x7F80 != 0x7F80).all()
            else:
                finite = np.isfinite(np.frombuffer(data, "<f2" if place.dtype == "F16" else "<f4")).all()
            if not finite:
                raise UpdateRefused("not_finite", f"tensor {place.name!r} has weights that are NaN or infinite")


def check_golden(model: StepModel, golden: Sequence[GoldenPrompt]) -> None:
    """Refuse (`golden`) a version that answers a golden prompt otherwise."""
    for each in golden:
        found, _ = answer(model, each.prompt, ANSWER_TOKENS_MAX)
        if found != each.answer:
            raise UpdateRefused("golden", f"{each.prompt!r} is answered {found[:200]!r}, not {each.answer!r}")


def check_drift(model: StepModel, serving: StepModel, probes: Sequence[str], drift_max: float) -> None:
    """Refuse (`drift`) a version whose next tokens are distributed too differently; see `drift`."""
    if not probes or model.tokenizer != serving.tokenizer:
        return
    found = drift(model, serving, probes)
    if not found <= drift_max:
        raise UpdateRefused("drift", f"answers moved by {found:.3f} from the serving version, {drift_max:g} is allowed")


def drift(model: StepModel, serving: StepModel, probes: Sequence[str]) -> float:
    """Mean total variation, 0 to 1, between two versions' next tokens along the answers of the serving one."""
    moved: list[float] = []
    for text in probes:
        prompt = _prepared(serving, text)
        if prompt.answer is not None:
            continue
        _, written = answer(serving, text, PROBED_TOKENS)
        told = [[*prompt.tokens, *written[:count]] for count in range(max(1, len(written)))]
        told = [tokens for tokens in told if len(tokens) < min(model.context, serving.context)]
        both = [_softmax(each.prefill(each.new_cache(len(told)), 0, told, 0)) for each in (model, serving)]
        moved += (0.5 * np.abs(both[0] - both[1]).sum(axis=1)).tolist()
    return float(np.mean(moved)) if moved else 0.0


def answer(model: StepModel, text: str, tokens_max: int) -> tuple[str, list[int]]:
    """Text and tokens of a model's most likely answer to one question.

    Raises:
        UpdateRefused: `golden`, the model cannot be asked.
    """
    prompt = _prepared(model, text)
    if prompt.answer is not None:
        return _text(prompt.answer), []
    cache, length = model.new_cache(1), len(prompt.tokens)
    logits = model.prefill(cache, 0, [prompt.tokens], 0)
    written: list[int] = []
    events: list[object] = []
    limit = min(tokens_max, model.context - length)
    while len(written) < limit and not prompt.reader.stopped:
        allowed = prompt.constraint.allowed() if prompt.constraint is not None else None
        if allowed is not None:
            sampling.restrict(logits[0], allowed)
        token = int(logits[0].argmax())
        if token in model.end_tokens:
            break
        written.append(token)
        if prompt.constraint is not None:
            prompt.constraint.push(token)
        events += prompt.reader.push(token)
        logits = model.decode(cache, np.array([token]), np.array([length]))
        length += 1
    return _text([*events, *prompt.reader.finish("stop")]), written


def _prepared(model: StepModel, text: str) -> Prompt:
    try:
        return model.prepare(GenerateRequest([{"role": "user", "content": text}]))
    except AutoGLMError as error:
        raise UpdateRefused("golden", f"{text[:200]!r} cannot be asked: {error.message}") from error


def _text(events: Sequence[object]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    weights: NDArray[np.float64] = np.exp(shifted)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights
