"""Writes a trained checkpoint as the files that ship: fp16 safetensors, config.json, manifest.json.

    python -m training.export glm-nano training/runs/nano/step-15000.pt --out OUT_DIR --note "seed 1, step 15,000"

Several checkpoints of one run are averaged, which is better than any of them. Also says how far numpy and torch
are apart on the exported weights. The files of one checkpoint are always the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import struct
from pathlib import Path

import numpy as np
import torch

from open_autoglm.engines.embedded import tokenizer
from open_autoglm.engines.embedded.abilities import Abilities
from open_autoglm.engines.embedded.model import GlmConfig, GlmModel, KvCache, pack
from open_autoglm.engines.embedded.weights import parse_safetensors
from training.data import CALC_MIX, NANO_MIX, Generator
from training.model import NORM_EPS, SHAPES, Glm, Shape

CONTEXT = 512


def safetensors(tensors: dict[str, np.ndarray]) -> bytes:
    """Bytes of a safetensors file with fp16 tensors, in the order of their names."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name in sorted(tensors):
        data = tensors[name].astype("<f2").tobytes()
        shape = list(tensors[name].shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def config_of(shape: Shape) -> dict[str, object]:
    """The `config.json` of a model, with both spellings of the rotary fields."""
    return {
        "architectures": ["GlmForCausalLM"],
        "model_type": "glm",
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "attention_bias": True,
        "attention_dropout": 0.0,
        "rms_norm_eps": NORM_EPS,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
        "rope_theta": shape.rope_theta,
        "partial_rotary_factor": 0.5,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta, "partial_rotary_factor": 0.5},
        "bos_token_id": tokenizer.GMASK,
        "eos_token_id": [tokenizer.EOS],
        "pad_token_id": tokenizer.PAD,
        "torch_dtype": "float16",
    }


def difference(name: str, weights: bytes) -> tuple[float, float]:
    """Largest difference of the logits of numpy and torch on 64 prompts, and the largest logit."""
    tensors = parse_safetensors(weights)
    config = GlmConfig.from_json(config_of(SHAPES[name]))
    abilities = Abilities(name, "0", frozenset(), 0)
    model, cache = GlmModel(config, pack(config, tensors), abilities), KvCache(config, 64)
    reference = Glm(SHAPES[name])
    reference.load_state_dict({key: torch.from_numpy(value) for key, value in tensors.items()})
    generator = Generator(NANO_MIX if name == "glm-nano" else CALC_MIX, "difference")
    prompts = [generator.train_item().tokens()[0] for _ in range(64)]
    random.Random(0).shuffle(prompts)
    ours = model.prefill(cache, 0, prompts)
    with torch.no_grad():
        theirs = np.stack([reference(torch.tensor([prompt]))[0, -1].numpy() for prompt in prompts])
    return float(np.abs(ours - theirs).max()), float(np.abs(theirs).max())


def manifest_of(name: str, version: str, note: str, files: dict[str, bytes], parameters: int) -> dict[str, object]:
    """The manifest: what the files are, their hashes, and what the model was trained to do."""
    nano = name == "glm-nano"
    return {
        "format": 1,
        "name": name,
        "version": version,
        "tokenizer": "open-autoglm-628",
        "parameters": parameters,
        "tasks": ["arithmetic", "chat", "tools", "intent", "plan", "result"] if nano else ["arithmetic"],
        "digits_max": len((NANO_MIX if nano else CALC_MIX).digit_weights),
        "training": note,
        "files": {
            file: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for file, data in files.items()
        },
    }


def average(checkpoints: list[Path]) -> dict[str, np.ndarray]:
    """Mean of the weights of several checkpoints of one run."""
    states = [torch.load(path, map_location="cpu") for path in checkpoints]
    return {key: (sum(state[key] for state in states) / len(states)).numpy() for key in states[0]}


def export(name: str, checkpoints: list[Path], out: Path, *, note: str, version: str = "1") -> None:
    """Writes the three files of a model, the average of the checkpoints, into `out`."""
    tensors = average(checkpoints)
    files = {
        "config.json": (json.dumps(config_of(SHAPES[name]), indent=2) + "\n").encode(),
        "model.safetensors": safetensors(tensors),
    }
    manifest = manifest_of(name, version, note, files, sum(value.size for value in tensors.values()))
    out.mkdir(parents=True, exist_ok=True)
    for file, data in files.items():
        (out / file).write_bytes(data)
    (out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    apart, largest = difference(name, files["model.safetensors"])
    print(f"{name}: {manifest['parameters']} parameters, {len(files['model.safetensors'])} bytes")
    print(f"numpy and torch differ by at most {apart:.2e}; the largest logit is {largest:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(SHAPES))
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--note", required=True, help="seed and steps, for the manifest")
    parser.add_argument("--version", default="1")
    options = parser.parse_args()
    export(options.name, options.checkpoints, options.out, note=options.note, version=options.version)


if __name__ == "__main__":
    main()
