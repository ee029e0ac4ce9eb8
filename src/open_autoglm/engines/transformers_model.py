"""Models of the GLM and Llama families, computed by PyTorch from a folder with safetensors.

Invariants: weights are read from safetensors whose hashes the manifest names, and from nothing else; the classes are
those of the installed library, never code of the folder; nothing is fetched from anywhere.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from open_autoglm.engines.model_folder import CONFIG, FILE_TENSOR, ModelFolder
from open_autoglm.engines.onnx_model import context_of
from open_autoglm.engines.past_model import KvShape, PastModel, check_rows
from open_autoglm.engines.step_model import Ids, Logits
from open_autoglm.engines.text_side import open_text
from open_autoglm.errors import ServerError

CLASSES: Final = {"glm": "GlmForCausalLM", "glm4": "Glm4ForCausalLM", "llama": "LlamaForCausalLM"}
"""By `model_type` of `config.json`."""


def open_transformers(path: Path, name: str, threads: int = 0, memory_fraction: float = 0.9) -> PastModel:
    """Read, check and try a model; on a GPU where there is one.

    Args:
        path: the folder.
        name: that clients use.
        threads: of PyTorch, for the whole process; 0 leaves them as they are.
        memory_fraction: of a GPU's memory that this process may take.

    Raises:
        ServerError: `internal_error`, with what is wrong and what to do.
    """
    return load_transformers(ModelFolder(path), name, threads, memory_fraction)


def load_transformers(folder: ModelFolder, name: str, threads: int = 0, memory_fraction: float = 0.9) -> PastModel:
    """As `open_transformers`, from a folder that is open."""
    text = open_text(folder, name)
    config = folder.read_json(CONFIG)
    context = context_of(folder, config)
    module, device = load_model(folder, threads, memory_fraction)
    graph = TorchGraph(module, device)
    if text.vocabulary > graph.vocabulary:
        raise folder.refuse(CONFIG, f"says {graph.vocabulary} tokens, and the tokenizer writes {text.vocabulary}")
    model = PastModel(name, folder.version, text, graph, context)
    check_rows(model)
    return model


def load_model(
    folder: ModelFolder, threads: int = 0, memory_fraction: float = 0.9, *, accelerator: bool = True
) -> tuple[Any, str]:
    """A model of `transformers` and the device it is on: `cuda` in bfloat16 or `cpu` in float32.

    Args:
        folder, threads, memory_fraction: as `open_transformers`.
        accelerator: whether a GPU may be used.

    Raises:
        ServerError: `internal_error`, as `open_transformers`.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # the library reads it when it is imported
    try:
        import torch
        import transformers
        from safetensors.torch import load_file
    except ImportError as error:
        raise ServerError(
            "internal_error", "PyTorch or transformers is missing; install open-autoglm[transformers]"
        ) from error
    fields = folder.read_json(CONFIG)
    kind = fields.get("model_type")
    found = CLASSES.get(kind) if isinstance(kind, str) else None
    if found is None:
        raise folder.refuse(CONFIG, f"says model_type {kind!r:.80}; these can be run: {', '.join(CLASSES)}")
    if not folder.names(".safetensors"):
        raise folder.refuse("manifest.json", "names no safetensors file")
    if threads:
        torch.set_num_threads(threads)
    device = claim_device(torch.cuda, memory_fraction) if accelerator else "cpu"
    transformers.utils.logging.disable_progress_bar()
    tensors: dict[str, Any] = {}
    try:
        for file in folder.names(".safetensors"):
            tensors |= {
                tensor: value
                for tensor, value in load_file(folder.checked_path(file)).items()
                if not tensor.startswith(FILE_TENSOR)
            }
        model, report = getattr(transformers, found).from_pretrained(
            None,
            config=getattr(transformers, found.replace("ForCausalLM", "Config")).from_dict(fields),
            state_dict=tensors,
            attn_implementation="eager" if device == "cpu" else "sdpa",
            dtype=torch.bfloat16 if device == "cuda" else torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # whatever the libraries raise about files that they cannot use
        if isinstance(error, ServerError):
            raise
        raise folder.refuse(CONFIG, f"and its weights cannot be loaded: {error}"[:500]) from error
    wrong = {what: sorted(map(str, names))[:4] for what, names in report.items() if names}
    if wrong:
        raise folder.refuse(CONFIG, f"and its weights do not fit: {wrong!r}"[:500])
    if device == "cuda":
        check_room(torch.cuda, sum(each.nbytes for each in model.parameters()), memory_fraction)
    return model.eval().to(device), device


def claim_device(cuda: Any, memory_fraction: float) -> str:
    """The device to compute on; what this process takes of a GPU's memory is bounded from now on.

    Args:
        cuda: `torch.cuda`.
        memory_fraction: of the GPU's memory, above 0, at most 1.
    """
    if not cuda.is_available():
        return "cpu"
    cuda.set_per_process_memory_fraction(memory_fraction)
    return "cuda"


def check_room(cuda: Any, needed: int, memory_fraction: float) -> None:
    """Raise when so many bytes of weights do not fit beside what this process has on the GPU.

    Raises:
        ServerError: `overloaded`, with how much is left.
    """
    free, total = cuda.mem_get_info()
    used = cuda.memory_allocated()
    left = max(0, min(free + cuda.memory_reserved() - used, int(memory_fraction * total) - used))
    if needed > left:
        raise ServerError(
            "overloaded",
            f"the weights take {needed} bytes of the GPU's memory, and {left} are left of the share "
            f"{memory_fraction:g} of this process; give it a larger one (--gpu-fraction), or stop what else runs there",
        )


class TorchGraph:
    """A `past_model.Graph` over a model of `transformers`.

    Args:
        model: a `…ForCausalLM`, in evaluation mode.
        device: on which it is.
    """

    __slots__ = ("_device", "_torch", "_type", "module", "shape", "vocabulary")

    def __init__(self, model: Any, device: str) -> None:
        import torch

        from open_autoglm.engines.transformers_module import PastModule

        config = model.config
        self._torch = torch
        self.module = PastModule(model)
        self._device = device
        self._type = next(model.parameters()).dtype
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.shape = KvShape(config.num_hidden_layers, config.num_key_value_heads, head_dim, self._type.itemsize)
        self.vocabulary: int = config.vocab_size

    def zeros(self, shape: tuple[int, ...]) -> Any:
        """See `Graph`."""
        return self._torch.zeros(shape, dtype=self._type, device=self._device)

    def run(self, ids: Ids, mask: Ids, places: Ids, keys: Any, values: Any) -> tuple[Logits, Any, Any]:
        """See `Graph`."""
        torch = self._torch
        tokens = [torch.from_numpy(each).to(self._device) for each in (ids, mask, places)]
        past = [part for layer in range(self.shape.layers) for part in (keys[layer], values[layer])]
        with torch.inference_mode():
            logits, *new = self.module(*tokens, past)
            last: Logits = logits[:, -1].float().cpu().numpy()
            return last, torch.stack(new[0::2]), torch.stack(new[1::2])
