"""The numpy forward pass: batches equal single requests, reading at once equals reading token by token."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from open_autoglm.engines.embedded import catalog
from open_autoglm.engines.embedded.abilities import Abilities
from open_autoglm.engines.embedded.model import GlmConfig, GlmModel, KvCache, pack
from open_autoglm.engines.embedded.prompt import build
from open_autoglm.engines.embedded.tokenizer import EOS
from open_autoglm.errors import ServerError

CONFIG = GlmConfig(
    hidden=16, layers=2, heads=4, kv_heads=2, head_dim=8, mlp=24, rotated=4, vocabulary=40, context=32,
    norm_eps=1.5625e-7, rope_theta=10_000.0,
)  # fmt: skip
FIELDS = {
    "model_type": "glm", "hidden_act": "silu", "tie_word_embeddings": True, "hidden_size": 16,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "intermediate_size": 24, "partial_rotary_factor": 0.5, "vocab_size": 40, "max_position_embeddings": 32,
    "rms_norm_eps": 1.5625e-7, "rope_theta": 10_000.0,
}  # fmt: skip
ABILITIES = Abilities("small", "1", frozenset(), 3)


def random_tensors(seed: int) -> dict[str, np.ndarray]:
    source = np.random.default_rng(seed)
    return {name: source.normal(0, 0.3, shape).astype(np.float32) for name, shape in CONFIG.shapes().items()}


def random_model(seed: int = 0) -> GlmModel:
    return GlmModel(CONFIG, pack(CONFIG, random_tensors(seed)), ABILITIES)


def plain_forward(tensors: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """The same network written as slowly and plainly as possible, in float64: logits after the last token."""
    wide = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x * x).mean() + CONFIG.norm_eps) * wide[name]

    def rotate(vector: np.ndarray, place: int) -> np.ndarray:
        result = vector.copy()
        for pair in range(CONFIG.rotated // 2):
            angle = place * CONFIG.rope_theta ** (-2 * pair / CONFIG.rotated)
            x, y = vector[2 * pair], vector[2 * pair + 1]
            result[2 * pair] = x * math.cos(angle) - y * math.sin(angle)
            result[2 * pair + 1] = y * math.cos(angle) + x * math.sin(angle)
        return result

    states = [wide["model.embed_tokens.weight"][token] for token in ids]
    for layer in range(CONFIG.layers):
        start = f"model.layers.{layer}."
        rows = {"q": [], "k": [], "v": []}
        for place, x in enumerate(states):
            y = norm(x, start + "input_layernorm.weight")
            for name, found in rows.items():
                matrix, bias = (wide[f"{start}self_attn.{name}_proj.{kind}"] for kind in ("weight", "bias"))
                heads = (matrix @ y + bias).reshape(-1, CONFIG.head_dim)
                found.append(heads if name == "v" else np.stack([rotate(head, place) for head in heads]))
        for place, x in enumerate(states):
            mixed = []
            for head in range(CONFIG.heads):
                shared = head // (CONFIG.heads // CONFIG.kv_heads)
                scores = [rows["q"][place][head] @ rows["k"][t][shared] for t in range(place + 1)]
                shares = np.exp(np.array(scores) / math.sqrt(CONFIG.head_dim))
                shares /= shares.sum()
                mixed.append(sum(share * rows["v"][t][shared] for t, share in enumerate(shares)))
            x = x + wide[start + "self_attn.o_proj.weight"] @ np.concatenate(mixed)
            y = wide[start + "mlp.gate_up_proj.weight"] @ norm(x, start + "post_attention_layernorm.weight")
            gate, up = y[: CONFIG.mlp], y[CONFIG.mlp :]
            states[place] = x + wide[start + "mlp.down_proj.weight"] @ (gate / (1 + np.exp(-gate)) * up)
    return wide["model.embed_tokens.weight"] @ norm(states[-1], "model.norm.weight")


def generate(model: GlmModel, prompts: list[list[int]], count: int) -> list[list[int]]:
    cache = KvCache(model.config, len(prompts))
    logits = model.prefill(cache, 0, prompts)
    lengths = np.array([len(prompt) for prompt in prompts])
    written: list[list[int]] = [[] for _ in prompts]
    for _ in range(count):
        tokens = logits.argmax(axis=1)
        for row, token in zip(written, tokens.tolist(), strict=True):
            row.append(token)
        logits = model.decode(cache, tokens, lengths)
        lengths = lengths + 1
    return written


def test_equals_the_plain_formulas() -> None:
    ids = [3, 17, 0, 39, 5, 5]
    got = random_model().prefill(KvCache(CONFIG, 1), 0, [ids])[0]
    assert np.abs(got - plain_forward(random_tensors(0), ids)).max() < 1e-3


def test_token_by_token_equals_the_prompt_at_once() -> None:
    model, ids = random_model(), [3, 17, 0, 39, 5, 5, 21]
    whole = model.prefill(KvCache(CONFIG, 1), 0, [ids])
    cache = KvCache(CONFIG, 1)
    logits = model.prefill(cache, 0, [ids[:2]])
    for place, token in enumerate(ids[2:], start=2):
        logits = model.decode(cache, np.array([token]), np.array([place]))
    assert np.abs(logits - whole).max() < 1e-4


def test_rows_of_a_batch_do_not_touch_each_other() -> None:
    model, prompts = random_model(), [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10]]
    cache = KvCache(CONFIG, 3)
    together = model.prefill(cache, 0, prompts)
    after = model.decode(cache, np.array([7, 8, 9]), np.array([3, 1, 6]))
    for row, prompt in enumerate(prompts):
        alone = KvCache(CONFIG, 1)
        assert np.abs(model.prefill(alone, 0, [prompt])[0] - together[row]).max() < 1e-4
        token, length = np.array([[7, 8, 9][row]]), np.array([len(prompt)])
        assert np.abs(model.decode(alone, token, length)[0] - after[row]).max() < 1e-4


def test_rows_may_be_filled_later_and_moved() -> None:
    model = random_model()
    cache = KvCache(CONFIG, 3)
    model.prefill(cache, 0, [[1, 2]])
    model.prefill(cache, 1, [[3, 4, 5], [6]])
    before = model.decode(cache, np.array([9, 9, 9]), np.array([2, 3, 1]))
    cache.move(1, 0, 3)
    moved = model.decode(cache, np.array([9]), np.array([3]))
    assert np.abs(moved[0] - before[1]).max() < 1e-4


@pytest.mark.parametrize("name", ["glm-nano", "glm-calc-s", "glm-calc-m"])
def test_a_batch_writes_the_same_tokens_as_single_requests(name: str) -> None:
    model = catalog.open_model(name)
    questions = ["12 + 30", "What is 305 minus 912?", "7乘以84是多少", "hello", "Add 999 and 1", "你好", "0-0", "88*8"]
    prompts = [build(question) for question in questions]
    together = generate(model, prompts, 24)
    for prompt, row in zip(prompts, together, strict=True):
        alone = generate(model, [prompt], 24)[0]
        end = alone.index(EOS) if EOS in alone else len(alone)
        assert row[: end + 1] == alone[: end + 1]


def test_replacing_the_weights_swaps_the_whole_model() -> None:
    model, other = random_model(0), random_model(1)
    ids = [1, 2, 3]
    first = model.prefill(KvCache(CONFIG, 1), 0, [ids])
    model.weights = other.weights
    second = model.prefill(KvCache(CONFIG, 1), 0, [ids])
    assert np.array_equal(second, other.prefill(KvCache(CONFIG, 1), 0, [ids]))
    assert not np.array_equal(first, second)


def test_the_configuration_is_read_from_both_ends() -> None:
    assert GlmConfig.from_json(FIELDS) == CONFIG


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "llama"},
        {"hidden_act": "gelu"},
        {"tie_word_embeddings": False},
        {"hidden_size": 0},
        {"vocab_size": 9000},
        {"hidden_size": "many"},
        {"num_key_value_heads": 3},
        {"partial_rotary_factor": 0.0},
    ],
)
def test_refuses_configurations_of_other_models(changes: dict[str, object]) -> None:
    with pytest.raises(ServerError, match="configuration"):
        GlmConfig.from_json({**FIELDS, **changes})


def test_refuses_a_configuration_with_a_field_missing() -> None:
    with pytest.raises(ServerError, match="head_dim"):
        GlmConfig.from_json({name: value for name, value in FIELDS.items() if name != "head_dim"})


def test_refuses_weights_that_do_not_fit() -> None:
    good = random_tensors(0)
    missing = {name: tensor for name, tensor in good.items() if "o_proj" not in name}
    with pytest.raises(ServerError, match="missing or extra"):
        pack(CONFIG, missing)
    with pytest.raises(ServerError, match="missing or extra"):
        pack(CONFIG, {**good, "lm_head.weight": good["model.embed_tokens.weight"]})
    with pytest.raises(ServerError, match="shape"):
        pack(CONFIG, {**good, "model.norm.weight": np.ones(17, np.float32)})
    with pytest.raises(ServerError, match="not finite"):
        pack(CONFIG, {**good, "model.norm.weight": np.full(16, np.nan, np.float32)})
    with pytest.raises(ServerError, match="larger than"):
        pack(dataclasses.replace(CONFIG, hidden=8192, mlp=8192), good)


@pytest.mark.parametrize("start", [1, 5, 9])
def test_a_prompt_is_read_on_after_what_was_kept_of_another(start: int) -> None:
    model = catalog.open_model("glm-nano")
    prompts = [build("What is 12 + 30?"), build("What is 12 + 7?")]
    cache, other = model.new_cache(3), model.new_cache(3)
    whole = model.prefill(cache, 1, prompts)
    saved = cache.save(1, start)
    assert sum(part.nbytes for part in saved) == model.memory_bytes(start)
    for row in (1, 2):
        other.restore(row, saved, start)
    assert prompts[0][:start] == prompts[1][:start]
    after = model.prefill(other, 1, prompts, start)
    np.testing.assert_allclose(after, whole, atol=2e-5)
    tokens, lengths = np.array([0, 9, 9]), np.array([0, len(prompts[0]), len(prompts[1])])
    np.testing.assert_allclose(
        model.decode(other, tokens, lengths)[1:], model.decode(cache, tokens, lengths)[1:], atol=2e-5
    )


def test_one_token_is_read_on() -> None:
    model = catalog.open_model("glm-nano")
    prompt = build("What is 12 + 30?")
    cache, other = model.new_cache(1), model.new_cache(1)
    whole = model.prefill(cache, 0, [prompt])
    other.restore(0, cache.save(0, len(prompt)), len(prompt) - 1)
    np.testing.assert_allclose(model.prefill(other, 0, [prompt], len(prompt) - 1), whole, atol=2e-5)
