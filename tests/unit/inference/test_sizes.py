"""How small the difference of two neighbouring checkpoints is: the figures of docs/model-updates.md."""

from __future__ import annotations

from pathlib import Path

from tests.unit.inference.worlds import Node, next_version

from open_autoglm.rollout.chunks import cut
from open_autoglm.rollout.delta import BodySource, quantise


def test_a_difference_is_half_of_the_weights_and_in_int8_less(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.close()
    body = next_version()[1]
    made = quantise(body, node.old_body)
    exact = BodySource(cut(body), body, node.old_body)
    int8 = BodySource(cut(made.body), made.body, node.old_body, quantised=made)
    shares = [sum(len(s.encoded(i)[1]) for i in range(s.plan.count)) / len(body) for s in (exact, int8)]
    assert len(body) == 376_960
    assert round(shares[0], 2) == 0.51
    assert round(shares[1], 2) == 0.44
