"""Describes a folder that came from elsewhere, so that a node may load it: what is in it now is what will be loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from open_autoglm.engines.model_folder import CONFIG, JSON_BYTES_MAX, FolderManifest, Kind, write_manifest
from open_autoglm.engines.onnx_session import MODEL_FILE
from open_autoglm.engines.text_side import TOKENIZER_FILE
from open_autoglm.engines.tokenizers_layouts import LAYOUTS, specials_of
from open_autoglm.errors import ServerError

_USED: Final = (CONFIG, TOKENIZER_FILE, MODEL_FILE)


def describe_folder(path: Path, *, layout: str | None = None, context: int = 0) -> FolderManifest:
    """Write the manifest of a folder with `model.onnx` or safetensors; files that nothing reads are left out.

    Args:
        path: the folder.
        layout: of conversations; None for the first whose special tokens its tokenizer has.
        context: most tokens of prompt and answer; 0 for as many as `config.json` says.

    Raises:
        ServerError: `internal_error`, nothing in it can be loaded.
        OSError: a file cannot be read, or the manifest not be written.
    """
    weights = sorted(each.name for each in path.glob("*.safetensors"))
    kind: Kind
    if (path / MODEL_FILE).exists():
        kind = "onnx" if (path / CONFIG).exists() else "tensors"
        weights = []
    elif weights:
        kind = "transformers"
    else:
        raise ServerError("internal_error", f"{str(path)!r} holds neither {MODEL_FILE} nor safetensors")
    names = [*weights, *(name for name in _USED if (path / name).exists() and (name != MODEL_FILE or not weights))]
    if kind == "tensors":
        return write_manifest(path, kind, names)
    if TOKENIZER_FILE not in names or CONFIG not in names:
        raise ServerError("internal_error", f"{str(path)!r} needs {CONFIG} and {TOKENIZER_FILE} beside its weights")
    return write_manifest(path, kind, names, text=layout or _layout_of(path / TOKENIZER_FILE), context=context)


def _layout_of(path: Path) -> str:
    """The first layout whose special tokens a tokenizer has."""
    if path.stat().st_size > JSON_BYTES_MAX:
        raise ServerError("internal_error", f"{str(path)!r} is longer than {JSON_BYTES_MAX} bytes")
    try:
        added = json.loads(path.read_bytes())["added_tokens"]
        known = {str(token["content"]) for token in added}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ServerError("internal_error", f"{str(path)!r} is no tokenizer: {error!r}"[:300]) from error
    return next(name for name, layout in LAYOUTS.items() if specials_of(layout) <= known)
