"""Writes a model of PyTorch as a folder that the ONNX engine serves, and compares the two before it says so.

Invariant: a folder gets its manifest, without which no engine opens it, only when the graph in it gave the same logits
as PyTorch within `TOLERANCE`, for a prompt alone, for prompts of unlike length together, and for the tokens after them.
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from open_autoglm.engines.embedded import catalog
from open_autoglm.engines.model_folder import CONFIG, MANIFEST, ModelFolder, write_manifest
from open_autoglm.engines.onnx_check import check_onnx
from open_autoglm.engines.onnx_model import context_of, open_onnx
from open_autoglm.engines.onnx_session import MODEL_BYTES_MAX, MODEL_FILE
from open_autoglm.engines.past_model import PastModel
from open_autoglm.engines.text_side import EMBEDDED, TOKENIZER_FILE, open_text
from open_autoglm.engines.transformers_model import TorchGraph, load_model
from open_autoglm.errors import ServerError

LIBRARIES: Final = ("torch", "transformers", "safetensors", "tokenizers", "onnx", "onnxscript", "onnxruntime")
OPSET: Final = 20
TOLERANCE: Final = 1e-3
"""Most that logits may differ, of the largest logit that PyTorch gave."""
STEPS: Final = 8
_PROMPT_TOKENS: Final = (11, 3, 7)


class Comparison(msgspec.Struct, frozen=True):
    """How alike PyTorch and ONNX Runtime were.

    Attributes:
        logits: how many were compared.
        difference: the largest one.
        largest: the largest logit.
        tokens, tokens_alike: next tokens that were compared, and those that were the same.
    """

    logits: int
    difference: float
    largest: float
    tokens: int
    tokens_alike: int

    @property
    def alike(self) -> bool:
        """Whether the graph means the same as the model."""
        return self.difference <= TOLERANCE * max(1.0, self.largest)


def check_libraries(names: Sequence[str] = LIBRARIES) -> None:
    """Look whether everything is installed that an export takes; nothing is imported.

    Raises:
        ServerError: `internal_error`, with what is missing and how to install it.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise ServerError(
            "internal_error", f"for the export {', '.join(missing)} must be there; install open-autoglm[export]"
        )


def export_onnx(
    source: Path, out: Path, *, opset: int = OPSET, on_start: Callable[[], None] | None = None
) -> Comparison:
    """Export a folder of the Transformers engine.

    Args:
        source: the folder, with its manifest.
        out: a folder that does not exist, or is empty.
        opset: of ONNX operators.
        on_start: called once everything was checked and the model is loaded, before what takes long.

    Raises:
        ServerError: `internal_error`, with what is wrong; `out` then has no manifest.
    """
    folder = ModelFolder(source)
    if out.exists() and any(out.iterdir()):
        raise ServerError("internal_error", f"{str(out)!r} is not empty; name a new folder")
    check_libraries()
    module, device = load_model(folder, accelerator=False)
    graph = TorchGraph(module, device)
    context = context_of(folder, folder.read_json(CONFIG))
    original = PastModel("original", "", open_text(folder, "original"), graph, context)
    if on_start is not None:
        on_start()
    return keep(folder, original, _graph_bytes(graph, opset), out)


def keep(folder: ModelFolder, original: PastModel, data: bytes, out: Path) -> Comparison:
    """Write a graph's folder, and its manifest if the graph is the model that it was made of.

    Args:
        folder: of the model.
        original: the model, computed by PyTorch.
        data: the graph, as an ONNX file.
        out: an empty folder, or none yet.

    Raises:
        ServerError: `internal_error`, the graph is another one; `out` then has no manifest.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / MODEL_FILE).write_bytes(data)
    names = [MODEL_FILE, CONFIG]
    (out / CONFIG).write_bytes(folder.read(CONFIG))
    if TOKENIZER_FILE in folder.manifest.files:
        names.append(TOKENIZER_FILE)
        (out / TOKENIZER_FILE).write_bytes(folder.read(TOKENIZER_FILE))
    manifest = folder.manifest
    try:
        write_manifest(out, "onnx", names, text=manifest.text, context=original.context, properties=manifest.properties)
        result = compare(original, open_onnx(out, "exported"))
        if not result.alike:
            raise ServerError(
                "internal_error",
                f"the graph is not the model: logits differ by {result.difference:.3g} where the largest is "
                f"{result.largest:.3g}",
            )
    except BaseException:
        (out / MANIFEST).unlink(missing_ok=True)
        raise
    return result


def export_embedded(
    name: str, out: Path, *, opset: int = OPSET, on_start: Callable[[], None] | None = None
) -> Comparison:
    """Export a model that ships; see `export_onnx`.

    Raises:
        RequestError: `model_not_found`.
        ServerError: as `export_onnx`.
    """
    manifest = catalog.read_manifest(name)
    catalog.open_model(name)  # checks the files
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        for file in manifest.sha256:
            shutil.copyfile(catalog.MODELS_DIR / name / file, folder / file)
        properties = {"tasks": sorted(manifest.tasks), "digits_max": manifest.digits_max}
        write_manifest(folder, "transformers", manifest.sha256, text=EMBEDDED, properties=properties)
        return export_onnx(folder, out, opset=opset, on_start=on_start)


def compare(original: PastModel, exported: PastModel) -> Comparison:
    """Logits of both for the same tokens: prompts together and each alone, and `STEPS` tokens after them."""
    vocabulary = original.graph.vocabulary
    source = np.random.default_rng(1)
    prompts = [source.integers(0, vocabulary, size).tolist() for size in _PROMPT_TOKENS if size < original.context]
    pairs = []
    for batch in (prompts, *([prompt] for prompt in prompts)):
        caches = original.new_cache(len(batch)), exported.new_cache(len(batch))
        wanted = original.prefill(caches[0], 0, batch)
        pairs.append((wanted, exported.prefill(caches[1], 0, batch)))
        lengths = np.array([len(prompt) for prompt in batch])
        for _ in range(min(STEPS, original.context - 1 - int(lengths.max()))):
            tokens = wanted.argmax(axis=1)
            wanted = original.decode(caches[0], tokens, lengths)
            pairs.append((wanted, exported.decode(caches[1], tokens, lengths)))
            lengths = lengths + 1
    left = np.concatenate([pair[0] for pair in pairs])
    right = np.concatenate([pair[1] for pair in pairs])
    difference = np.abs(left - right).max() if np.isfinite(right).all() else np.inf
    alike = int((left.argmax(axis=1) == right.argmax(axis=1)).sum())
    return Comparison(left.size, float(difference), float(np.abs(left).max()), len(left), alike)


def _graph_bytes(graph: TorchGraph, opset: int) -> bytes:
    """The graph as an ONNX file with its weights inside."""
    import torch

    shape = graph.shape
    rows, past, new = 2, 5, 3  # of the example; no two alike, and none 0 or 1, which would be taken for constants
    held = torch.zeros((rows, shape.kv_heads, past, shape.head_dim))
    example = (
        torch.ones((rows, new), dtype=torch.int64),
        torch.ones((rows, past + new), dtype=torch.int64),
        torch.arange(past, past + new).repeat(rows, 1),
        [held.clone() for _ in range(2 * shape.layers)],
    )
    dim = torch.export.Dim.DYNAMIC
    dynamic = ({0: dim, 1: dim}, {0: dim, 1: dim}, {0: dim, 1: dim}, [{0: dim, 2: dim}] * (2 * shape.layers))
    names = [f"{layer}.{part}" for layer in range(shape.layers) for part in ("key", "value")]

    def export() -> Any:
        return torch.onnx.export(
            graph.module,
            example,
            dynamo=True,
            dynamic_shapes=dynamic,
            opset_version=opset,
            input_names=["input_ids", "attention_mask", "position_ids", *(f"past_key_values.{name}" for name in names)],
            output_names=["logits", *(f"present.{name}" for name in names)],
            external_data=False,
            verbose=False,
        )

    proto = _quietly(export).model_proto
    _strip(proto)
    try:
        data: bytes = proto.SerializeToString()
    except Exception as error:  # the library's own: a message can have 2 GiB
        raise ServerError("internal_error", f"the graph cannot be written: {error}"[:300]) from error
    if len(data) > MODEL_BYTES_MAX:
        raise ServerError("internal_error", "the model is larger than the 2 GiB that one ONNX file can hold")
    check_onnx(data)
    return data


def _strip(proto: Any) -> None:
    """Take out what the exporter notes about its own run: stack traces with paths of this machine, shapes within."""
    graph = proto.graph
    del proto.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


def _quietly(work: Callable[[], Any]) -> Any:
    """Do something without the notes that the libraries write about themselves."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return work()
        except ImportError as error:
            raise ServerError(
                "internal_error", f"a library for the export is missing ({error.name}); install open-autoglm[export]"
            ) from error
