"""One model of each dialect, and the SDK's clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import openai
import pytest
from tests.integration.running import KEY, RunningServer, model
from tests.integration.stage import server, upstream
from tests.integration.upstreams import Station, Upstream

__all__ = ["server", "upstream"]


@pytest.fixture(scope="session")
def stations(upstream: Upstream) -> dict[str, Station]:
    """The stations behind the models."""
    return {"openai": upstream.station("openai"), "generate": upstream.station("generate")}


@pytest.fixture
def models(server: RunningServer, stations: dict[str, Station]) -> RunningServer:
    """The server with a model of each dialect, named after it. To apply what is active already costs nothing."""
    server.apply(
        model("openai", stations["openai"].url, upstream_model="upstream-1"),
        model("generate", stations["generate"].generate_url),
        model("embedded", "embedded:glm-nano"),
    )
    return server


@pytest.fixture
def sdk(server: RunningServer) -> Iterator[openai.OpenAI]:
    """The synchronous client, without retries of its own."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0, timeout=30.0) as client:
        yield client


@pytest.fixture
def make_async_sdk(server: RunningServer) -> Callable[[], openai.AsyncOpenAI]:
    """Makes the asynchronous client, in the test's own loop."""
    return lambda: openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0, timeout=30.0)
