"""The catalogue: what ships, how it is named, and that damaged files are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from open_autoglm.engines.embedded import catalog
from open_autoglm.errors import RequestError, ServerError

SHIPPED = ("glm-calc-c", "glm-calc-d", "glm-calc-m", "glm-calc-s", "glm-nano")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of a model that may be damaged, in a folder of models of its own."""
    shutil.copytree(catalog.MODELS_DIR / "glm-calc-s", tmp_path / "glm-calc-s")
    return tmp_path / "glm-calc-s"


def test_five_models_ship() -> None:
    assert catalog.names() == SHIPPED
    assert catalog.DEFAULT_MODEL in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_each_opens(name: str) -> None:
    model, manifest = catalog.open_model(name), catalog.read_manifest(name)
    assert model.abilities.name == name
    assert "arithmetic" in model.abilities.tasks
    assert model.abilities.digits_max == (4 if name == "glm-nano" else 3)
    shapes = model.config.shapes().values()
    assert manifest.parameters == sum(rows * columns for rows, columns in ((*shape, 1)[:2] for shape in shapes))


def test_an_older_version_opens_by_its_name() -> None:
    assert catalog.open_model("glm-calc-s", "1").abilities.version == "1"
    assert catalog.open_model("glm-calc-s").abilities.version == "2"
    with pytest.raises(RequestError, match="no version '9'"):
        catalog.open_model("glm-calc-s", "9")


def test_endpoints() -> None:
    assert catalog.endpoint_model("embedded:glm-nano") == "glm-nano"
    assert catalog.endpoint_model("http://127.0.0.1/v1") is None


@pytest.mark.parametrize("name", ["glm-nana", "", "../glm-nano", "glm-nano/versions", "."])
def test_unknown_names_are_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(RequestError) as caught:
        catalog.endpoint_model(f"embedded:{name}")
    assert caught.value.code == "model_not_found"
    assert "glm-calc-m" in caught.value.message


def test_the_nearest_name_is_suggested() -> None:
    with pytest.raises(RequestError, match="did you mean 'glm-nano'"):
        catalog.open_model("glm-nan")


def test_changed_weights_are_refused(copied: Path) -> None:
    data = bytearray((copied / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copied / "model.safetensors").write_bytes(data)
    with pytest.raises(ServerError, match="SHA-256"):
        catalog.open_model("glm-calc-s", models_dir=copied.parent)


def test_a_changed_configuration_is_refused(copied: Path) -> None:
    with (copied / "config.json").open("a") as file:
        file.write(" ")
    with pytest.raises(ServerError, match="is not the file"):
        catalog.open_model("glm-calc-s", models_dir=copied.parent)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"format": 2}, "another format"), ({"name": "other"}, "another format"), ({"files": {}}, "names no hash"),
     ({"files": 7}, "cannot be used"), ({"digits_max": "x"}, "cannot be used")],
)  # fmt: skip
def test_a_manifest_of_another_kind_is_refused(copied: Path, changes: dict[str, object], reason: str) -> None:
    path = copied / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ServerError, match=reason):
        catalog.open_model("glm-calc-s", models_dir=copied.parent)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_a_manifest_that_is_no_object_is_refused(copied: Path, text: str) -> None:
    (copied / "manifest.json").write_text(text)
    with pytest.raises(ServerError, match="manifest"):
        catalog.open_model("glm-calc-s", models_dir=copied.parent)
