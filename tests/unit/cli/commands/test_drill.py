"""What may be typed after `autoglm drill`, short of drilling."""

import pytest
import yaml
from tests.unit.cli.terminals import err, out, piped

from open_autoglm.cli.main import run


def test_the_faults_and_the_behaviours_are_listed() -> None:
    terminal = piped()
    assert run(["drill", "--list"], terminal) == 0
    assert "slow-first-token" in out(terminal)
    assert "Half of the answer, then the connection is reset" in out(terminal)


def test_a_configuration_names_the_places_where_the_upstreams_will_listen() -> None:
    terminal = piped()
    assert (
        run(["drill", "--print-config", "open-autoglm", "--listen", "10.0.0.1:7000", "--only", "cut,15"], terminal) == 0
    )
    models = yaml.safe_load(out(terminal))["models"]
    assert [model["name"] for model in models if "large" not in model["name"]] == ["drill-08"] * 2 + ["drill-15"] * 2
    assert models[0]["endpoint"] == "http://10.0.0.1:7000/v1"
    assert models[3]["endpoint"] == "http://10.0.0.1:7003/v1"


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["--only", "nonsense"], "no fault 'nonsense'"),
        (["--target", "ftp://x"], "ftp"),
        (["--listen", "x:0"], "HOST:PORT"),
        (["--listen", "x"], "HOST:PORT"),
    ],
)
def test_what_cannot_be_is_wrong_usage(typed: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = piped()
    assert run(["drill", *typed], terminal) == 2
    assert told in err(terminal) + capsys.readouterr().err
