"""The fuzz driver finds what is broken, keeps it, and repeats itself."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.fuzz.drive import CORPUS, Report, Run, corpus_of, load, smallest, targets
from tests.fuzz.mutation import Mutator

SEEDS = [b"name: value\r\nother: 12\r\n", b'{"a": [1, 2]}']


def mutator(seed: int = 1, corpus: list[bytes] | None = None) -> Mutator:
    return Mutator(SEEDS if corpus is None else corpus, [b"token"], random.Random(seed))


def run(target: object, inputs: int = 3000) -> Report:
    assert callable(target)
    return Run(target, SEEDS, mutator(), Report("toy", "mutation", 1)).go(inputs)


def test_the_same_seed_gives_the_same_inputs() -> None:
    one, same, other = mutator(), mutator(), mutator(2)
    inputs = [one.next() for _ in range(300)]
    assert inputs == [same.next() for _ in range(300)]
    assert inputs != [other.next() for _ in range(300)]
    assert len(set(inputs)) > 200


def test_it_can_begin_with_nothing() -> None:
    bare = Mutator([], [], random.Random(3))
    assert len({bare.next() for _ in range(100)}) > 10


def test_words_of_the_format_are_put_in() -> None:
    def target(data: bytes) -> None:
        assert b"token" not in data

    report = run(target)
    assert list(report.crashes) == [f"AssertionError at test_drive.py:{target.__code__.co_firstlineno + 1}"]


def test_each_kind_of_crash_is_kept_once(tmp_path: Path) -> None:
    def target(data: bytes) -> None:
        if len(data) % 2:
            raise ValueError("odd")
        raise KeyError("even")

    toy = Run(target, SEEDS, mutator(), Report("toy", "mutation", 1))
    toy.crashes = tmp_path
    report = toy.go(100)
    assert report.inputs == 100
    assert len(report.crashes) == len(list(tmp_path.iterdir())) == 2
    for kind, kept in report.crashes.items():
        with pytest.raises((ValueError, KeyError)) as caught:
            target(Path(kept).read_bytes())
        assert kind.startswith(caught.type.__name__)


def test_an_input_that_hangs_is_found() -> None:
    def target(data: bytes) -> None:
        while len(data) > 30:
            pass

    toy = Run(target, SEEDS, mutator(), Report("toy", "mutation", 1))
    toy.limit_s = 0.01
    report = toy.go(100)
    assert any(kind.startswith("HangError") for kind in report.crashes)


def test_targets_have_a_corpus_that_is_small() -> None:
    names = targets()
    assert {"http_server_shell", "http_client_shell"} <= set(names)
    for name in names:
        target, _ = load(name)
        assert callable(target)
        assert corpus_of(name), f"{name} has a corpus"
    size = sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file())
    assert size < 1_000_000


def test_a_corpus_can_be_made_small(tmp_path: Path) -> None:
    for number, data in enumerate(corpus_of("http_client_shell") * 2):
        (tmp_path / str(number)).write_bytes(data)
    kept = smallest("http_client_shell", tmp_path)
    assert 1 < len(kept) < len(list(tmp_path.iterdir()))
