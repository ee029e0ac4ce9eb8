"""The configurations that the drill prints."""

import pytest
import yaml

from open_autoglm.config import parse_config
from open_autoglm.testing.cases import SIXTEEN
from open_autoglm.testing.drill import UPSTREAMS
from open_autoglm.testing.gateway_config import Wanted, litellm, nginx, open_autoglm

URLS = {name: f"http://127.0.0.1:{9100 + number}/v1" for number, name in enumerate(UPSTREAMS)}
WANTED = Wanted(SIXTEEN, URLS, 8123)


@pytest.mark.parametrize("going_on", [False, True])
def test_ours_is_a_configuration_of_ours(going_on: bool) -> None:
    text = open_autoglm(Wanted(SIXTEEN, URLS, 8123, going_on))
    config = parse_config(text, source="test", environ={}, trusted=True, insecure=False).config
    names = [model.name for model in config.models]
    assert names.count("drill-07") == 2
    assert names.count("drill-07-large") == 1
    assert config.server.port == 8123
    assert ("stream_failure: continue" in text) == going_on


def test_the_endpoint_that_goes_away_serves_one_case_alone() -> None:
    entries = yaml.safe_load(open_autoglm(WANTED))["models"]
    assert [entry["name"] for entry in entries if entry["endpoint"] == URLS["outage"]] == ["drill-15"]


def test_litellm_gets_every_model_and_its_fallbacks() -> None:
    value = yaml.safe_load(litellm(WANTED))
    assert len(value["model_list"]) == 3 * len(SIXTEEN)
    assert {"drill-16": ["drill-large-16"]} in value["litellm_settings"]["fallbacks"]


def test_nginx_knows_the_places_alone() -> None:
    text = nginx(WANTED)
    assert "server 127.0.0.1:9102 backup;" in text
    assert "listen 127.0.0.1:8123;" in text
