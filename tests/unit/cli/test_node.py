"""`autoglm node`: what is typed becomes settings, and what makes no sense is said."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError

import pytest
from tests.unit.cli.terminals import out, piped

from open_autoglm.cli.commands import node
from open_autoglm.inference.node import StartedNode


def test_everything_that_can_be_typed_is_read() -> None:
    parser = ArgumentParser()
    node.configure(parser)
    words = "--model a=echo: --model b=embedded:glm-nano --join x:1 --join y:2 --class gpu --slots 8 --memory 2GiB"
    found = parser.parse_args([*words.split(), "--gpu-fraction", "0.5", "--drain", "5", "--name", "n1"])
    assert found.name == "n1"
    assert found.model == [("a", "echo:"), ("b", "embedded:glm-nano")]
    assert (found.join, found.node_class, found.slots) == (["x:1", "y:2"], "gpu", 8)
    assert (found.memory, found.prefix_memory, found.gpu_fraction, found.drain) == (2 << 30, 0, 0.5, 5.0)


@pytest.mark.parametrize("text", ["", "a", "a=", "=echo:", "a b=echo:", "x" * 256 + "=echo:"])
def test_a_model_without_name_or_source_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="no NAME=SOURCE"):
        node.named_source(text)


def test_a_source_may_hold_an_equals_sign() -> None:
    assert node.named_source("a=onnx:/m=1") == ("a", "onnx:/m=1")


@pytest.mark.parametrize("text", ["0", "1.1", "-1", "nan", "half"])
def test_a_share_is_above_nothing_and_at_most_all(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="no share"):
        node.share(text)


def test_a_size_has_a_unit() -> None:
    with pytest.raises(ArgumentTypeError, match="no size"):
        node.size_bytes("much")


def test_the_table_says_what_runs_where() -> None:
    terminal = piped()
    models = [{"name": "m", "source": "echo:", "version": "0123456789abcdef", "slots": 4}]
    node.announce(StartedNode(("127.0.0.1", 8090), ("127.0.0.1", 9), "edge", False, models, "node-7"), terminal)
    said = out(terminal)
    assert "listening on mcp://127.0.0.1:8090\nhealth and metrics on http://127.0.0.1:9\n" in said
    assert "member node-7 of the cluster" in said
    assert said.splitlines()[-1].split() == ["m", "echo:", "0123456789ab", "edge", "4"]
