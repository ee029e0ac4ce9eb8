"""`autoglm rollout`: what is shown, what is made, and what is refused before anything is sent."""

from __future__ import annotations

import shutil
from argparse import ArgumentTypeError
from pathlib import Path

import pytest
from tests.unit.cli.terminals import piped

from open_autoglm.cli.commands.rollout import percent, rows_of, size, throttle
from open_autoglm.cli.main import run
from open_autoglm.engines.embedded.catalog import MODELS_DIR
from open_autoglm.inference.model_store import StoredVersion
from open_autoglm.membership.seal import derive_key
from open_autoglm.rollout.chunks import chunk_bytes_at
from open_autoglm.rollout.manifest import GoldenPrompt, read_manifest
from open_autoglm.rollout.refusal import UpdateRefused


def test_a_rollout_is_two_rows() -> None:
    side = {"version": "a" * 64, "requests": 5, "failures": 1, "nodes": ["x"]}
    other = {"version": "b" * 64, "requests": 20, "failures": 0, "nodes": ["y", "z"]}
    row = {"model": "m", "state": "running", "share": 0.2, "candidate": side, "stable": other}
    assert rows_of({"rollouts": [row]}) == [
        ["m", "running", "20%", "aaaaaaaaaaaa (candidate)", 5, 1, 1],
        ["m", "", "80%", "bbbbbbbbbbbb (stable)", 20, 0, 2],
    ]


@pytest.mark.parametrize("text", ["-1", "101", "1.5", "", "x"])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    assert percent("20") == 20
    with pytest.raises(ArgumentTypeError):
        percent(text)


@pytest.mark.parametrize(("rate", "at_once"), [(10 << 10, 64 << 10), (64 << 10, 64 << 10), (8 << 20, 2 << 20)])
def test_a_rate_binds_from_the_first_second_on(rate: int, at_once: int) -> None:
    held = throttle(rate, chunk_bytes_at(rate, 1 << 20))
    assert held.take(100.0, at_once) == 0.0
    assert held.take(100.0, 64 << 10) == pytest.approx((64 << 10) / rate)


def test_what_is_no_size_is_refused() -> None:
    assert size("8MiB") == 8 << 20
    with pytest.raises(ArgumentTypeError):
        size("much")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["start"], "the model is missing"),
        (["start", "m"], "the version is missing"),
        (["weights", "m"], "--percent"),
        (["push", "."], "cannot be opened"),
        (["commit", "m", "v"], "--node"),
        (["commit", "m", "v", "--node", "nowhere"], "HOST:PORT"),
        (["commit", "m", "v", "--node", "127.0.0.1:99999"], "ports are 1 to 65535"),
        (["commit", "m", "v", "--node", "127.0.0.1:0"], "ports are 1 to 65535"),
        (["pack", "/nowhere"], "No such file"),
    ],
)
def test_what_is_missing_is_said(words: list[str], message: str) -> None:
    terminal = piped()
    assert run(["rollout", *words], terminal) == 1
    assert message in terminal.err.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("line", ["nonsense", '{"prompt": "12 + 30"}', '{"prompt": 12, "answer": "42"}', "", '"\xff"'])
def test_golden_prompts_that_cannot_be_read_are_named_by_their_line(tmp_path: Path, line: str) -> None:
    golden = tmp_path / "golden.jsonl"
    golden.write_bytes(b'{"prompt": "1 + 1", "answer": "2"}\n' + line.encode("latin-1") + b"\n")
    terminal = piped()
    assert run(["rollout", "pack", str(tmp_path), "--golden", str(golden)], terminal) == 1
    assert f"--golden {golden}, line 2: " in terminal.err.getvalue()  # type: ignore[attr-defined]


def test_a_folder_of_onnx_is_packed_into_another_which_can_be_pushed(tmp_path: Path) -> None:
    folder = Path(__file__).parents[3] / "data" / "onnx" / "tiny-glm"
    terminal, out = piped(), tmp_path / "out"
    words = ["rollout", "pack", str(folder), "--name", "tiny", "--out", str(out)]
    assert run(words, terminal) == 0
    with StoredVersion(out, None) as stored:
        stored.verify()
        assert (stored.manifest.name, stored.manifest.properties["engine"]) == ("tiny", "onnx")
        assert terminal.out.getvalue() == f"{stored.manifest.version}\n"  # type: ignore[attr-defined]
    assert run(words, piped()) != 0, "a folder that is not empty was written to"


def test_tasks_that_there_are_not_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "sums"
    shutil.copytree(MODELS_DIR / "glm-calc-s" / "versions" / "1", folder)
    before = (folder / "manifest.json").read_bytes()
    terminal = piped()
    assert run(["rollout", "pack", str(folder), "--tasks", "arithmetic,foo"], terminal) == 1
    assert "no task 'foo'; there are arithmetic, chat" in terminal.err.getvalue()  # type: ignore[attr-defined]
    assert (folder / "manifest.json").read_bytes() == before


def test_a_folder_is_packed_and_signed(tmp_path: Path) -> None:
    folder = tmp_path / "sums"
    shutil.copytree(MODELS_DIR / "glm-calc-s" / "versions" / "1", folder)
    secret, golden = tmp_path / "secret", tmp_path / "golden.jsonl"
    secret.write_text("a secret of the tests\n")
    secret.chmod(0o600)
    golden.write_text('{"prompt": "12 + 30", "answer": "42"}\n')
    terminal = piped()
    words = ["rollout", "pack", str(folder), "--tasks", "arithmetic", "--golden", str(golden)]
    assert run([*words, "--secret-file", str(secret)], terminal) == 0
    data = (folder / "manifest.json").read_bytes()
    manifest = read_manifest(data, derive_key(b"a secret of the tests", "models"))
    assert terminal.out.getvalue() == f"{manifest.version}\n"  # type: ignore[attr-defined]
    assert (manifest.name, manifest.golden) == ("sums", (GoldenPrompt("12 + 30", "42"),))
    assert manifest.properties["tasks"] == ["arithmetic"]
    with pytest.raises(UpdateRefused):
        read_manifest(data, derive_key(b"another secret", "models"))
