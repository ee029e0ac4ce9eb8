"""What may be typed after `python -m open_autoglm.testing.simulation`."""

from __future__ import annotations

from pathlib import Path

import pytest

from open_autoglm.testing.simulation import main


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--seeds", "7"], "'7' are no seeds"),
        (["--seeds", "9-3"], "'9-3' are no seeds"),
        (["--seed", "x"], "invalid int value"),
        (["--scenario", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_what_cannot_be_is_wrong_usage(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "told"), [("events:\n  - at 5s: melt up-1\n", "no event: 'at 5s: melt up-1'"), ("a: [", "no YAML")]
)
def test_a_scenario_that_cannot_be_read_is_wrong_usage(
    text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "scenario.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["--scenario", str(file)])
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_a_scenario_is_written_as_it_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "7", "--write"]) == 0
    assert "events:" in capsys.readouterr().out
