"""Versions of the embedded models in a model store: those that ship are put there, those that are there are loaded."""

from __future__ import annotations

import json
from pathlib import Path

from open_autoglm.engines.embedded import catalog
from open_autoglm.engines.embedded.abilities import TASKS, Abilities
from open_autoglm.engines.embedded.model import GlmConfig, GlmModel, pack
from open_autoglm.engines.embedded.tokenizer import NAME as TOKENIZER
from open_autoglm.engines.embedded.weights import FILE_BYTES_MAX, parse_safetensors, read_file
from open_autoglm.inference.model_store import CONFIG, CONFIG_BYTES_MAX, WEIGHTS, ModelStore, StoredVersion
from open_autoglm.rollout.manifest import GoldenPrompt, Manifest
from open_autoglm.rollout.refusal import UpdateRefused

KIND = "embedded"
PROBES = ("12 + 30", "847 - 292", "What is 7 times 381?", "345 plus 999", "63 减 28 等于多少？")
"""Questions to compare two versions by; every embedded model was trained on sums."""


def load(stored: StoredVersion, name: str | None = None) -> GlmModel:
    """Make a stored version ready to compute; a `validation.Loader`.

    Args:
        stored: the version.
        name: of the engine that is to run it; None for the manifest's.

    Raises:
        UpdateRefused: `format`, it is no embedded model.
        ServerError: its configuration or its tensors cannot be used.
        ValueError: its weights or its properties cannot be read.
    """
    manifest, properties = stored.manifest, stored.manifest.properties
    if properties.get("engine") != KIND or properties.get("tokenizer") != TOKENIZER:
        raise UpdateRefused("format", f"{manifest.name!r} is for engine {properties.get('engine')!r}, not {KIND!r}")
    if manifest.weights_bytes > FILE_BYTES_MAX:
        raise UpdateRefused("format", f"{manifest.weights_bytes} bytes of weights are more than {FILE_BYTES_MAX}")
    tasks = frozenset(str(task) for task in properties["tasks"]) & frozenset(TASKS)
    abilities = Abilities(name or manifest.name, manifest.version, tasks, int(properties["digits_max"]))
    config = GlmConfig.from_json(json.loads(stored.config))
    return GlmModel(config, pack(config, parse_safetensors(stored.file_bytes())), abilities)


def adopt(
    store: ModelStore,
    name: str,
    version: str | None = None,
    *,
    shipped_name: str | None = None,
    parent: str | None = None,
    golden: tuple[GoldenPrompt, ...] = (),
    models_dir: Path = catalog.MODELS_DIR,
) -> Manifest:
    """Put a model that ships into the store; return the manifest of what is there then.

    Args:
        store: where to.
        name: in the store.
        version: as in the catalog; None for the version that is served.
        shipped_name: as in the catalog, when that is another.
        parent, golden: for the manifest.
        models_dir: a folder of the catalog's layout.

    Raises:
        RequestError: `model_not_found`.
        ServerError: the installed files are damaged.
        UpdateRefused: the store's disk is full.
    """
    shipped_name = shipped_name or name
    shipped = catalog.read_manifest(shipped_name, version, models_dir=models_dir)
    catalog.open_model(shipped_name, version, models_dir=models_dir)  # checks the hashes of what is copied
    folder = models_dir / shipped_name
    if version is not None:
        folder = folder / "versions" / version
    return store.add(
        name,
        read_file(folder / WEIGHTS, FILE_BYTES_MAX),
        read_file(folder / CONFIG, CONFIG_BYTES_MAX),
        parent=parent,
        golden=golden,
        properties={
            "engine": KIND,
            "tokenizer": TOKENIZER,
            "tasks": sorted(shipped.tasks),
            "digits_max": shipped.digits_max,
            "release": shipped.version,
        },
    )
