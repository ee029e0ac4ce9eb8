"""Feeds the configuration reader whatever comes: it may refuse it, nothing else.

The first byte chooses notation and trust, the rest is the text.
Without a driver: `python tests/fuzz/config_reader.py FILE…`.
"""

import sys
from pathlib import Path

from open_autoglm.config import ServerConfig, parse_config
from open_autoglm.errors import ConfigError

SOURCES = ("fuzz.yaml", "fuzz.json", "fuzz")
ENVIRON = {"UPSTREAM_TOKEN": "token-from-the-environment", "PORT": "9000", "EMPTY": "", "LONG": "x" * 40_000}
SHOWN_CHARACTERS_MAX = 200_000
"""Of a refusal's message: bounded, however wrong the input is."""


def fuzz_one(data: bytes) -> None:
    """Read one input.

    Raises:
        AssertionError: the reader broke a promise; any other exception is a defect of the reader as well.
    """
    if not data:
        return
    choice = data[0]
    text = data[1:].decode("utf-8", "surrogateescape" if choice & 8 else "replace")
    environ = dict(ENVIRON)
    if choice & 16:
        # The text stands in the environment instead, over a file that is well.
        environ["MCP__MODELS"] = text
        text = "server: {port: 8080}\n"
    try:
        loaded = parse_config(text, source=SOURCES[choice % 3], environ=environ, trusted=bool(choice & 4))
    except ConfigError as refusal:
        _check_refusal(refusal)
    else:
        _check_config(loaded.config)


def _check_refusal(refusal: ConfigError) -> None:
    assert refusal.problems, "a refusal says why"
    assert len(refusal.message) < SHOWN_CHARACTERS_MAX, "a refusal can be read"


def _check_config(config: ServerConfig) -> None:
    for model in config.models:
        assert model.name, "what is accepted is whole"
        assert model.endpoint, "what is accepted is whole"
    auth = config.auth
    ways_in = bool(auth.keys) or auth.jwt is not None or auth.signing.enabled
    assert ways_in or not auth.enabled, "somebody can be let in"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        fuzz_one(Path(name).read_bytes())
