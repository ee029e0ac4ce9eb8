"""Models that write, from a folder with an ONNX graph with keys and values as inputs and outputs.

    FOLDER/model.onnx         inputs `input_ids`, `attention_mask`, `position_ids`, `past_key_values.N.key|value`;
                              outputs `logits`, `present.N.key|value`
    FOLDER/config.json        of the model, as `transformers` writes it
    FOLDER/tokenizer.json     unless the tokenizer is one of ours
    FOLDER/manifest.json      see `model_folder`

`autoglm export onnx` writes such folders. What `present.N` begins with does not matter, as long as it ends with the new
keys and values, so graphs that give back the whole past can be used too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from open_autoglm.engines.model_folder import CONFIG, ModelFolder
from open_autoglm.engines.onnx_session import MODEL_FILE, open_session
from open_autoglm.engines.past_model import KvShape, PastModel, check_rows
from open_autoglm.engines.step_model import Ids, Logits
from open_autoglm.engines.text_side import open_text

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

LAYERS_MAX: Final = 512
CONTEXT_MAX: Final = 1 << 20
_NUMBERS: Final[dict[str, np.dtype[Any]]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
}
_PAST: Final = re.compile(r"past_key_values\.(\d{1,3})\.(key|value)")
_TOKENS: Final = ("input_ids", "attention_mask", "position_ids")


def open_onnx(path: Path, name: str, threads: int = 0) -> PastModel:
    """Read, check and try a model.

    Args:
        path: the folder.
        name: that clients use.
        threads: of the library, for one pass; 0 for one per core.

    Raises:
        ServerError: `internal_error`, with what is wrong and what to do.
    """
    return load_onnx(ModelFolder(path), name, threads)


def load_onnx(folder: ModelFolder, name: str, threads: int = 0) -> PastModel:
    """As `open_onnx`, from a folder that is open."""
    if folder.manifest.kind != "onnx":
        raise folder.refuse("manifest.json", f"is of a folder for {folder.manifest.kind!r}, not 'onnx'")
    text = open_text(folder, name)
    config = folder.read_json(CONFIG)
    context = context_of(folder, config)
    try:
        graph = OnnxGraph(open_session(folder, threads))
    except ValueError as error:
        raise folder.refuse(MODEL_FILE, str(error)) from error
    if text.vocabulary > graph.vocabulary:
        raise folder.refuse(MODEL_FILE, f"knows {graph.vocabulary} tokens, and its tokenizer writes {text.vocabulary}")
    model = PastModel(name, folder.version, text, graph, context)
    check_rows(model)
    return model


def context_of(folder: ModelFolder, config: dict[str, Any]) -> int:
    """Most tokens of prompt and answer together.

    Raises:
        ServerError: `internal_error`, neither manifest nor configuration says a number that can be.
    """
    context = folder.manifest.context or config.get("max_position_embeddings")
    if type(context) is not int or not 4 <= context <= CONTEXT_MAX:
        raise folder.refuse(CONFIG, f"says max_position_embeddings {context!r:.80}; it must be 4 to {CONTEXT_MAX}")
    return context


class OnnxGraph:
    """A `past_model.Graph` over a session of ONNX Runtime.

    Args:
        session: of a graph as in the module.

    Raises:
        ValueError: it is another graph.
    """

    __slots__ = ("_outputs", "_past", "_session", "_token_inputs", "_type", "shape", "vocabulary")

    def __init__(self, session: InferenceSession) -> None:
        inputs = {each.name: each for each in session.get_inputs()}
        outputs = {each.name: each for each in session.get_outputs()}
        past = [each for name, each in inputs.items() if _PAST.fullmatch(name)]
        layers = len(past) // 2
        names = [(f"past_key_values.{i}.key", f"past_key_values.{i}.value") for i in range(layers)]
        self._token_inputs = [name for name in _TOKENS if name in inputs]
        expected = {*self._token_inputs, *(name for pair in names for name in pair)}
        self._outputs = ["logits", *(f"present.{i}.{part}" for i in range(layers) for part in ("key", "value"))]
        if not 1 <= layers <= LAYERS_MAX or inputs.keys() != expected or "input_ids" not in inputs:
            raise ValueError(f"has other inputs than tokens and past keys and values: {sorted(inputs)!r:.300}")
        if not outputs.keys() >= set(self._outputs):
            raise ValueError(f"has other outputs than logits and present keys and values: {sorted(outputs)!r:.300}")
        if any(inputs[name].type != "tensor(int64)" for name in self._token_inputs):
            raise ValueError("takes tokens of another type than int64")
        kind, sizes = past[0].type, [each.shape for each in past]
        if kind not in _NUMBERS or any(each.type != kind for each in past):
            raise ValueError(f"has keys and values of type {kind!r}; float32 and float16 can be used")
        heads, dim = (sizes[0][1], sizes[0][3]) if len(sizes[0]) == 4 else (0, 0)
        if any(len(size) != 4 or (size[1], size[3]) != (heads, dim) for size in sizes) or not (
            type(heads) is int and type(dim) is int and heads > 0 and dim > 0
        ):
            raise ValueError(f"has keys and values of shape {sizes[0]!r:.200}")
        vocabulary = outputs["logits"].shape[-1]
        if type(vocabulary) is not int or vocabulary < 2:
            raise ValueError(f"gives logits of shape {outputs['logits'].shape!r:.200}")
        self._session = session
        self._past = names
        self._type = _NUMBERS[kind]
        self.shape = KvShape(layers, heads, dim, self._type.itemsize)
        self.vocabulary = vocabulary

    def zeros(self, shape: tuple[int, ...]) -> Any:
        """See `Graph`."""
        return np.zeros(shape, self._type)

    def run(self, ids: Ids, mask: Ids, places: Ids, keys: Any, values: Any) -> tuple[Logits, Any, Any]:
        """See `Graph`."""
        tokens = {"input_ids": ids, "attention_mask": mask, "position_ids": places}
        feed = {name: tokens[name] for name in self._token_inputs}
        for layer, (key, value) in enumerate(self._past):
            feed[key] = keys[layer]
            feed[value] = values[layer]
        logits, *present = self._session.run(self._outputs, feed)
        new = ids.shape[1]
        news = [each if each.shape[2] == new else each[:, :, -new:] for each in present]
        return np.asarray(logits[:, -1], np.float32), np.stack(news[0::2]), np.stack(news[1::2])
