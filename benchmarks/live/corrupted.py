"""Updates that must not be taken: fifty, of every kind that we could think of, each from a seed of its own."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from open_autoglm.rollout import manifest as manifests
from open_autoglm.rollout.chunks import CHUNK_BYTES_MIN, ChunkPlan, cut
from open_autoglm.rollout.delta import BodySource
from open_autoglm.rollout.manifest import GoldenPrompt, Manifest, TensorEntry
from open_autoglm.rollout.reception import Offer

Encoded = tuple[int, int, bytes]
"""Number, codec and payload of a chunk."""


@dataclass
class Whole:
    """A version that is all right, and what the receiver has.

    Attributes:
        name, config, properties: of the model.
        places: its tensors.
        body: of the new version.
        parent, parent_body: the version that serves.
        key: of the cluster.
    """

    name: str
    config: bytes
    properties: dict[str, Any]
    places: list[Any]
    body: bytes
    parent: str
    parent_body: bytes
    key: bytes


@dataclass
class Update:
    """What is sent: an offer, and how each chunk is put on the line."""

    offer: Offer
    source: BodySource
    damage: Callable[[Encoded], Encoded] = field(default=lambda chunk: chunk)

    @property
    def plan(self) -> ChunkPlan:
        return self.source.plan

    def encoded(self, index: int) -> tuple[int, bytes]:
        return self.source.encoded(index)


def good(
    whole: Whole, body: bytes | None = None, *, delta: bool = True, key: bytes | None = None, **fields: Any
) -> Update:
    """An update; `fields` replace what goes into its manifest."""
    body = whole.body if body is None else body
    made = manifests.build(
        fields.get("name", whole.name),
        fields.get("places", whole.places),
        body,
        fields.get("config", whole.config),
        parent=whole.parent,
        properties=fields.get("properties", whole.properties),
        golden=fields.get("golden", ()),
    )
    return offered(whole, manifests.sign(made, whole.key if key is None else key), body, delta=delta)


def offered(whole: Whole, manifest: Manifest, body: bytes, *, delta: bool = True) -> Update:
    plan = cut(body, CHUNK_BYTES_MIN)
    offer = Offer(manifest.encode().decode(), whole.config.decode(), plan, whole.parent if delta else None)
    return Update(offer, BodySource(plan, body, whole.parent_body if delta else None))


def corrupted(whole: Whole, number: int) -> tuple[str, Update]:
    """Name and update of one of the fifty, 0 to 49; for another whole the same number is the same kind."""
    kinds = (*_MANIFESTS, *_CONTENTS, *_LINES)
    make = kinds[number % len(kinds)]
    return make.__name__.strip("_").replace("_", " "), make(whole, random.Random(number))


def _edited(whole: Whole, **fields: Any) -> Update:
    """An update whose manifest was changed and signed again, by somebody who has the key."""
    made = manifests.build(
        whole.name, whole.places, whole.body, whole.config, parent=whole.parent, properties=whole.properties
    )
    manifest = manifests.sign(msgspec.structs.replace(made, **fields), whole.key)
    return offered(whole, manifest, whole.body)


def _hash(chance: random.Random) -> str:
    return chance.randbytes(32).hex()


def _another_key(whole: Whole, chance: random.Random) -> Update:
    return good(whole, key=chance.randbytes(32))


def _no_signature(whole: Whole, chance: random.Random) -> Update:
    update = good(whole)
    manifest = msgspec.json.decode(update.offer.manifest, type=Manifest)
    return offered(whole, msgspec.structs.replace(manifest, signature=""), whole.body)


def _manifest_cut_off(whole: Whole, chance: random.Random) -> Update:
    update = good(whole)
    text = update.offer.manifest[: chance.randrange(len(update.offer.manifest))]
    return Update(Offer(text, update.offer.config, update.plan, update.offer.parent), update.source)


def _manifest_byte_changed(whole: Whole, chance: random.Random) -> Update:
    update = good(whole)
    text = bytearray(update.offer.manifest.encode())
    text[chance.randrange(len(text))] ^= 1 << chance.randrange(7)
    changed = text.decode("ascii", "replace")
    return Update(Offer(changed, update.offer.config, update.plan, update.offer.parent), update.source)


def _version_of_something_else(whole: Whole, chance: random.Random) -> Update:
    return _edited(whole, version=_hash(chance))


def _hash_of_the_whole(whole: Whole, chance: random.Random) -> Update:
    return _edited(whole, weights_sha256=_hash(chance))


def _path_as_a_name(whole: Whole, chance: random.Random) -> Update:
    return _edited(whole, name=chance.choice(["../../etc", "a/b", "..", ".staging-x"]))


def _another_model(whole: Whole, chance: random.Random) -> Update:
    return _edited(whole, name="glm-nano")


def _tensors_overlap(whole: Whole, chance: random.Random) -> Update:
    made = manifests.build(whole.name, whole.places, whole.body, whole.config)
    entry = made.tensors[3]
    moved = TensorEntry(entry.name, entry.dtype, entry.shape, entry.offset - 2, entry.sha256)
    return _edited(whole, tensors=(*made.tensors[:3], moved, *made.tensors[4:]))


def _wrong_parent(whole: Whole, chance: random.Random) -> Update:
    update = good(whole)
    return Update(Offer(update.offer.manifest, update.offer.config, update.plan, _hash(chance)), update.source)


def _another_configuration(whole: Whole, chance: random.Random) -> Update:
    update = good(whole)
    config = whole.config.decode().replace("silu", "relu")
    return Update(Offer(update.offer.manifest, config, update.plan, update.offer.parent), update.source)


def _plan_of_another_body(whole: Whole, chance: random.Random) -> Update:
    update = good(whole)
    plan = cut(whole.body[: -2 * chance.randrange(1, 999)], CHUNK_BYTES_MIN)
    return Update(Offer(update.offer.manifest, update.offer.config, plan, update.offer.parent), update.source)


def _chunks_of_another_body(whole: Whole, chance: random.Random) -> Update:
    """The chunks are those that were announced, but they are not the manifest's."""
    update = good(whole)
    other = _noisy(whole.body, 1e-3, chance)
    plan = cut(other, CHUNK_BYTES_MIN)
    return Update(Offer(update.offer.manifest, update.offer.config, plan, None), BodySource(plan, other))


def _word(whole: Whole, chance: random.Random, value: float) -> Update:
    words = np.frombuffer(whole.body, "<f2").copy()
    words[chance.randrange(len(words))] = value
    return good(whole, words.tobytes())


def _not_a_number(whole: Whole, chance: random.Random) -> Update:
    return _word(whole, chance, np.nan)


def _infinite(whole: Whole, chance: random.Random) -> Update:
    return _word(whole, chance, chance.choice([np.inf, -np.inf]))


def _noisy(body: bytes, scale: float, chance: random.Random) -> bytes:
    words = np.frombuffer(body, "<f2").astype(np.float32)
    noise = np.random.default_rng(chance.getrandbits(32)).standard_normal(len(words)).astype(np.float32)
    return (words + np.float32(scale) * noise).astype("<f2").tobytes()


def _noise(whole: Whole, chance: random.Random) -> Update:
    return good(whole, _noisy(whole.body, 0.3, chance))


def _zeros(whole: Whole, chance: random.Random) -> Update:
    return good(whole, bytes(len(whole.body)))


def _signs_turned(whole: Whole, chance: random.Random) -> Update:
    return good(whole, (-np.frombuffer(whole.body, "<f2")).astype("<f2").tobytes())


def _bytes_swapped(whole: Whole, chance: random.Random) -> Update:
    """Weights of another byte order: some are no numbers, the others are nonsense."""
    return good(whole, np.frombuffer(whole.body, "<f2").byteswap().tobytes())


def _golden_prompt_wrong(whole: Whole, chance: random.Random) -> Update:
    return good(whole, golden=(GoldenPrompt("12 + 30", str(chance.randrange(43, 99))),))


def _tensor_missing(whole: Whole, chance: random.Random) -> Update:
    last = whole.places[-1]
    return good(whole, whole.body[: last.start], places=whole.places[:-1], delta=False)


def _other_shape(whole: Whole, chance: random.Random) -> Update:
    places = [
        reshaped(place, (place.shape[1], place.shape[0]))
        if len(place.shape) == 2 and place.shape[0] != place.shape[1]
        else place
        for place in whole.places
    ]
    return good(whole, places=places)


def reshaped(place: Any, shape: tuple[int, ...]) -> Any:
    """The same place with another shape."""
    return type(place)(place.name, place.dtype, shape, place.start, place.end)


def _other_engine(whole: Whole, chance: random.Random) -> Update:
    return good(whole, properties={**whole.properties, "engine": "onnx"})


def _properties_missing(whole: Whole, chance: random.Random) -> Update:
    return good(whole, properties={name: value for name, value in whole.properties.items() if name != "tasks"})


def _always(whole: Whole, damage: Callable[[Encoded], Encoded]) -> Update:
    update = good(whole)
    update.damage = damage
    return update


def _bit_turned_on_the_way(whole: Whole, chance: random.Random) -> Update:
    def damage(chunk: Encoded) -> Encoded:
        payload = bytearray(chunk[2])
        payload[chance.randrange(len(payload))] ^= 1 << chance.randrange(8)
        return chunk[0], chunk[1], bytes(payload)

    return _always(whole, damage)


def _payload_cut_off(whole: Whole, chance: random.Random) -> Update:
    return _always(whole, lambda chunk: (chunk[0], chunk[1], chunk[2][: chance.randrange(len(chunk[2]))]))


def _chunk_under_another_number(whole: Whole, chance: random.Random) -> Update:
    return _always(whole, lambda chunk: (chunk[0] + 1, chunk[1], chunk[2]))


def _other_codec(whole: Whole, chance: random.Random) -> Update:
    return _always(whole, lambda chunk: (chunk[0], chance.choice([0, 2, 3, 65_535]), chunk[2]))


def _bomb(whole: Whole, chance: random.Random) -> Update:
    packed = b"\x02" + zlib.compress(bytes(64 << 20), 9)
    return _always(whole, lambda chunk: (chunk[0], 1, packed))


_MANIFESTS = (
    _another_key, _no_signature, _manifest_cut_off, _manifest_byte_changed, _version_of_something_else,
    _hash_of_the_whole, _path_as_a_name, _another_model, _tensors_overlap, _wrong_parent, _another_configuration,
)  # fmt: skip
_CONTENTS = (
    _plan_of_another_body, _chunks_of_another_body, _not_a_number, _infinite, _noise, _zeros, _signs_turned,
    _bytes_swapped, _golden_prompt_wrong, _tensor_missing, _other_shape, _other_engine, _properties_missing,
)  # fmt: skip
_LINES = (_bit_turned_on_the_way, _payload_cut_off, _chunk_under_another_number, _other_codec, _bomb)
