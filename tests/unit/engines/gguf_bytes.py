"""Writes GGUF files: a tiny Llama of random numbers, and whatever a header may claim."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

ALIGNMENT = 32
WIDTH, HEADS, KV_HEADS, LAYERS, MLP, CONTEXT = 32, 4, 2, 2, 48, 128


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def entry(key: str, value: Any) -> bytes:
    """One entry of the header; the type follows from the value."""
    if isinstance(value, bool):
        return text(key) + struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return text(key) + struct.pack("<II", 4, value)
    if isinstance(value, float):
        return text(key) + struct.pack("<If", 6, value)
    if isinstance(value, str):
        return text(key) + struct.pack("<I", 8) + text(value)
    kind = {str: 8, bytes: 8, float: 6, int: 5}[type(value[0])]
    items = b"".join(text(each) if kind == 8 else struct.pack("<f" if kind == 6 else "<i", each) for each in value)
    return text(key) + struct.pack("<IIQ", 9, kind, len(value)) + items


def tensor(name: str, shape: tuple[int, ...], offset: int, kind: int = 0) -> bytes:
    """Where a tensor lies; the shape as numpy has it."""
    sizes = struct.pack(f"<{len(shape)}Q", *reversed(shape))
    return text(name) + struct.pack("<I", len(shape)) + sizes + struct.pack("<IQ", kind, offset)


def file(entries: list[bytes], tensors: list[bytes], data: bytes = b"", **claims: int) -> bytes:
    """A whole file; `claims` override `version`, `tensor_count` and `entry_count`."""
    head = b"GGUF" + struct.pack(
        "<IQQ",
        claims.get("version", 3),
        claims.get("tensor_count", len(tensors)),
        claims.get("entry_count", len(entries)),
    )
    head += b"".join(entries) + b"".join(tensors)
    return head + b"\0" * (-len(head) % ALIGNMENT) + data


def vocabulary() -> tuple[list[str], list[int]]:
    """Three special tokens, a token for each byte, and the printable characters."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [2, 3, 3, *[6] * 256]
    letters = ["\u2581", *map(chr, range(0x21, 0x7F))]
    return words + letters, kinds + [1] * len(letters)


def tiny_llama(path: Path) -> Path:
    """Write a Llama of random numbers; return the path."""
    words, kinds = vocabulary()
    source = np.random.default_rng(1)
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (len(words), WIDTH), "output_norm.weight": (WIDTH,)}
    shapes["output.weight"] = (len(words), WIDTH)
    kv = WIDTH // HEADS * KV_HEADS
    for layer in range(LAYERS):
        start = f"blk.{layer}."
        shapes |= {start + "attn_norm.weight": (WIDTH,), start + "ffn_norm.weight": (WIDTH,)}
        shapes |= {start + "attn_q.weight": (WIDTH, WIDTH), start + "attn_output.weight": (WIDTH, WIDTH)}
        shapes |= {start + "attn_k.weight": (kv, WIDTH), start + "attn_v.weight": (kv, WIDTH)}
        shapes |= {start + "ffn_gate.weight": (MLP, WIDTH), start + "ffn_up.weight": (MLP, WIDTH)}
        shapes[start + "ffn_down.weight"] = (WIDTH, MLP)
    places, data = [], b""
    for name, shape in shapes.items():
        values = np.ones(shape) if name.endswith("norm.weight") else source.normal(0, 0.6, shape)
        places.append(tensor(name, shape, len(data)))
        data += values.astype("<f4").tobytes()
        data += b"\0" * (-len(data) % ALIGNMENT)
    fields: dict[str, Any] = {
        "general.architecture": "llama",
        "llama.context_length": CONTEXT,
        "llama.embedding_length": WIDTH,
        "llama.block_count": LAYERS,
        "llama.feed_forward_length": MLP,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": WIDTH // HEADS,
        "llama.vocab_size": len(words),
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.scores": [0.0] * len(words),
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }
    path.write_bytes(file([entry(key, value) for key, value in fields.items()], places, data))
    return path
