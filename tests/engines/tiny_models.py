"""Models of random numbers, small enough for tests: `python -m tests.engines.tiny_models` writes the ONNX fixture anew.

It needs what `tests/engines.sh` installs. The fixture lets the tests of the ONNX engine run without PyTorch.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from open_autoglm.engines.embedded.tokenizer import VOCABULARY_SIZE
from open_autoglm.engines.model_folder import write_manifest

FIXTURE = Path(__file__).parents[1] / "data" / "onnx" / "tiny-glm"
SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 96,
    "vocab_size": VOCABULARY_SIZE,
    "pad_token_id": 8,
    "bos_token_id": 0,
    "eos_token_id": 7,
}
CLASSES = {"glm": "Glm", "glm4": "Glm4", "llama": "Llama"}
PROPERTIES = {"tasks": ["chat"], "digits_max": 4}


def write_folder(folder: Path, kind: str) -> Path:
    """A folder of the Transformers engine with a random model of a family; return it."""
    import torch
    import transformers
    from safetensors.torch import save_file

    torch.manual_seed(1)
    config = getattr(transformers, f"{CLASSES[kind]}Config")(**SIZES, initializer_range=0.5)
    model = getattr(transformers, f"{CLASSES[kind]}ForCausalLM")(config)
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    names = ["config.json", "model.safetensors"]
    write_manifest(folder, "transformers", names, text="glm-nano", properties=PROPERTIES)
    return folder


def main() -> None:
    from open_autoglm.engines.export_onnx import export_onnx

    with tempfile.TemporaryDirectory() as directory:
        source = write_folder(Path(directory), "glm")
        shutil.rmtree(FIXTURE, ignore_errors=True)
        print(export_onnx(source, FIXTURE))


if __name__ == "__main__":
    main()
