"""What the tests of the configuration share: reading a text, and the problems of a wrong one."""

import textwrap
from collections.abc import Mapping
from typing import Protocol

import pytest

from open_autoglm.config import Loaded, parse_config
from open_autoglm.errors import ConfigError, ConfigProblem


class Parse(Protocol):
    """Reads a YAML text, its indentation taken away."""

    def __call__(
        self, text: str, environ: Mapping[str, str] = ..., *, trusted: bool = ..., insecure: bool = ...
    ) -> Loaded: ...


class Problems(Protocol):
    """Reads a text that is wrong and returns what is wrong with it."""

    def __call__(
        self, text: str, environ: Mapping[str, str] = ..., *, trusted: bool = ..., source: str = ...
    ) -> list[ConfigProblem]: ...


@pytest.fixture
def parse() -> Parse:
    def read(
        text: str, environ: Mapping[str, str] | None = None, *, trusted: bool = True, insecure: bool = False
    ) -> Loaded:
        return parse_config(
            textwrap.dedent(text), source="test.yaml", environ=environ or {}, trusted=trusted, insecure=insecure
        )

    return read


@pytest.fixture
def problems() -> Problems:
    def read(
        text: str, environ: Mapping[str, str] | None = None, *, trusted: bool = True, source: str = "test.yaml"
    ) -> list[ConfigProblem]:
        with pytest.raises(ConfigError) as caught:
            parse_config(textwrap.dedent(text), source=source, environ=environ or {}, trusted=trusted)
        return caught.value.problems

    return read
