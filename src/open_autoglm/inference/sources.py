"""What runs a model: from the SOURCE that was typed to an engine.

| source | engine |
|---|---|
| `embedded:NAME` | a model that ships, computed with numpy |
| `echo:` | says what it was told, at once |
| `onnx:FOLDER` | a graph that `autoglm export onnx` wrote, by ONNX Runtime; see `engines.onnx_model` |
| `llamacpp:FILE` | a GGUF file, by llama.cpp; see `engines.llamacpp_model` |
| `tensors:FOLDER` | any other ONNX graph: tensors in, tensors out; see `engines.onnx_tensors` |
| `transformers:FOLDER` | GLM and Llama models, by PyTorch; see `engines.transformers_model` |

A folder's manifest says its kind, so that it need not be typed. Libraries are imported when they are needed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from open_autoglm.engines.model_engine import ModelEngine
from open_autoglm.engines.model_folder import ModelFolder
from open_autoglm.engines.step_model import StepModel
from open_autoglm.errors import AutoGLMError, ServerError
from open_autoglm.inference.settings import EngineSettings

Opener = Callable[[str, str, EngineSettings], ModelEngine]
"""Makes an engine of a model's name, what follows the kind in its source, and settings; it is not started."""


def open_engine(name: str, source: str, settings: EngineSettings) -> ModelEngine:
    """Load a model.

    Args:
        name: that clients use.
        source: see the module.
        settings: for the engine.

    Raises:
        ServerError: there is no such source, or it cannot be used; with what to do.
    """
    kind, _, rest = source.partition(":")
    try:
        if kind not in OPENERS:
            kind, rest = _kind_of(source), source
        return OPENERS[kind](name, rest, settings)
    except (AutoGLMError, ImportError, OSError, ValueError) as error:
        raise ServerError("internal_error", f"--model {name}={source}: {error}") from error


def folder_of(source: str) -> ModelFolder | None:
    """The folder that a model which writes was opened from; None when it is of another kind.

    Raises:
        ServerError: `internal_error`, it cannot be read any more.
    """
    kind, _, rest = source.partition(":")
    if kind in OPENERS:
        return ModelFolder(Path(rest)) if kind in ("onnx", "transformers") else None
    path = Path(source)
    folder = ModelFolder(path) if path.is_dir() else None
    return folder if folder is not None and folder.manifest.kind != "tensors" else None


def _kind_of(source: str) -> str:
    """Kind of a file by its ending, of a folder as its manifest says."""
    path = Path(source)
    if not path.exists():
        known = ", ".join(f"{kind}:" for kind in sorted(OPENERS))
        raise ServerError("internal_error", f"no such folder or file; a source begins with one of {known}")
    return "llamacpp" if path.suffix == ".gguf" else ModelFolder(path).manifest.kind


def _embedded(name: str, rest: str, settings: EngineSettings) -> ModelEngine:
    from open_autoglm.engines.embedded.catalog import open_model

    return _batching(open_model(rest), settings)


def _onnx(name: str, rest: str, settings: EngineSettings) -> ModelEngine:
    from open_autoglm.engines.onnx_model import open_onnx

    return _batching(open_onnx(Path(rest), name, settings.threads), settings)


def _transformers(name: str, rest: str, settings: EngineSettings) -> ModelEngine:
    from open_autoglm.engines.transformers_model import open_transformers

    return _batching(open_transformers(Path(rest), name, settings.threads, settings.gpu_memory_fraction), settings)


def _llamacpp(name: str, rest: str, settings: EngineSettings) -> ModelEngine:
    from open_autoglm.engines.llamacpp_model import open_llamacpp

    return _batching(open_llamacpp(Path(rest), name, settings.threads), settings)


def _tensors(name: str, rest: str, settings: EngineSettings) -> ModelEngine:
    from open_autoglm.engines.onnx_tensors import open_tensors

    return open_tensors(Path(rest), name, settings.threads, settings.queue_max)


def _batching(model: StepModel, settings: EngineSettings) -> ModelEngine:
    from open_autoglm.engines.engine import Engine

    return Engine(
        model,
        slots=settings.slots,
        queue_max=settings.queue_max,
        memory_max=settings.memory_max,
        prefix_bytes_max=settings.prefix_bytes_max,
    )


def _echo(name: str, rest: str, settings: EngineSettings) -> ModelEngine:
    from open_autoglm.engines.echo import EchoEngine

    return EchoEngine(name, rest or "1")


OPENERS: Final[dict[str, Opener]] = {
    "embedded": _embedded,
    "echo": _echo,
    "llamacpp": _llamacpp,
    "onnx": _onnx,
    "tensors": _tensors,
    "transformers": _transformers,
}
"""By what stands before the colon."""
