"""The models that ship with the package, and opening one by its name.

    models/NAME/{manifest.json, config.json, model.safetensors}            the version that is served
    models/NAME/versions/VERSION/…                                         other versions, for updates and tests

The manifest's hashes are checked whenever a model is opened, so what runs is what was released.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from open_autoglm.engines.embedded import tokenizer
from open_autoglm.engines.embedded.abilities import TASKS, Abilities
from open_autoglm.engines.embedded.model import GlmConfig, GlmModel, pack
from open_autoglm.engines.embedded.weights import read_file, read_safetensors
from open_autoglm.errors import RequestError, ServerError

MODELS_DIR: Final = Path(__file__).parent / "models"
ENDPOINT_PREFIX: Final = "embedded:"
DEFAULT_MODEL: Final = "glm-nano"
_JSON_BYTES_MAX: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Manifest:
    """A model's `manifest.json`.

    Attributes:
        name, version: which weights these are.
        parameters: number of weights.
        tasks: what the model was trained on, out of `abilities.TASKS`.
        digits_max: most digits of a number in a sum.
        training: seed, steps and figures, in words.
        sha256: of each file, by its name.
    """

    name: str
    version: str
    parameters: int
    tasks: frozenset[str]
    digits_max: int
    training: str
    sha256: dict[str, str]


def names(models_dir: Path = MODELS_DIR) -> tuple[str, ...]:
    """Names of the models that ship (or of those in another folder of the same layout), sorted."""
    return tuple(sorted(path.parent.name for path in models_dir.glob("*/manifest.json")))


def endpoint_model(endpoint: str) -> str | None:
    """Name of the model that `embedded:NAME` means; None for any other kind of endpoint.

    Raises:
        RequestError: `model_not_found`, when no model of that name ships.
    """
    if not endpoint.startswith(ENDPOINT_PREFIX):
        return None
    name = endpoint.removeprefix(ENDPOINT_PREFIX)
    _directory(MODELS_DIR, name, None)
    return name


def read_manifest(name: str, version: str | None = None, *, models_dir: Path = MODELS_DIR) -> Manifest:
    """Manifest of a model; `version` None for the one that is served.

    Raises:
        RequestError: `model_not_found`.
        ServerError: `internal_error`, when the installed files are damaged.
    """
    directory = _directory(models_dir, name, version)
    fields = _read_json(directory / "manifest.json")
    try:
        if fields["format"] != 1 or fields["tokenizer"] != tokenizer.NAME or fields["name"] != name:
            raise ValueError("it is of another format, tokenizer or model")
        return Manifest(
            name=name,
            version=str(fields["version"]),
            parameters=int(fields["parameters"]),
            tasks=frozenset(fields["tasks"]) & frozenset(TASKS),
            digits_max=int(fields["digits_max"]),
            training=str(fields["training"]),
            sha256={file: str(entry["sha256"]) for file, entry in fields["files"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(directory / "manifest.json", f"cannot be used: {error!r}") from error


def open_model(name: str, version: str | None = None, *, models_dir: Path = MODELS_DIR) -> GlmModel:
    """Reads, checks and packs a model; takes some 15 ms.

    Raises:
        RequestError: `model_not_found`.
        ServerError: `internal_error`, when the installed files are damaged.
    """
    directory = _directory(models_dir, name, version)
    manifest = read_manifest(name, version, models_dir=models_dir)
    try:
        config_sha256, weights_sha256 = manifest.sha256["config.json"], manifest.sha256["model.safetensors"]
    except KeyError as error:
        raise _damaged(directory / "manifest.json", f"names no hash of {error}") from error
    config = GlmConfig.from_json(_read_json(directory / "config.json", config_sha256))
    weights = pack(config, read_safetensors(directory / "model.safetensors", weights_sha256))
    return GlmModel(config, weights, Abilities(name, manifest.version, manifest.tasks, manifest.digits_max))


def _directory(models_dir: Path, name: str, version: str | None) -> Path:
    """Folder of a model that ships; a name is looked up in the list, never joined to a path unseen."""
    known = names(models_dir)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise RequestError("model_not_found", f"no embedded model {name!r}; {hint}There are: {', '.join(known)}")
    if version is None:
        return models_dir / name
    versions = {path.parent.name: path.parent for path in (models_dir / name).glob("versions/*/manifest.json")}
    if version not in versions:
        there = ", ".join(sorted(versions)) or "none but the served one"
        raise RequestError("model_not_found", f"{name!r} has no version {version!r} in the package; there are: {there}")
    return versions[version]


def _read_json(path: Path, sha256: str | None = None) -> dict[str, Any]:
    data = read_file(path, _JSON_BYTES_MAX)
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise _damaged(path, "is not the file that the manifest names")
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"is no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise _damaged(path, "holds no JSON object")
    return fields


def _damaged(path: Path, reason: str) -> ServerError:
    return ServerError("internal_error", f"model file {str(path)!r} {reason}; install the package again")
