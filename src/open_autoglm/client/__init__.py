"""The client of the framed protocol: asynchronous, and the same for programs without a loop.

    from open_autoglm.client import Client

    with Client("mcp://127.0.0.1:8080", key="…") as client:
        print(client.infer("chat", "What is 12 + 30?").text)

| module | has |
|---|---|
| `async_client`, `sync_client` | `AsyncClient` and `Client`, the two faces |
| `pool` | connections that come back, and who waits for them |
| `unary`, `stream` | one answer that is awaited; one that is read as it comes, also over the next connection |
| `tensors` | one answer in tensors |
| `websocket` | frames within a WebSocket |
| `request`, `answer`, `failures`, `address` | what is sent, what comes, what goes wrong, where to |

Invariant: every request ends once: with an answer, with an `AutoGLMError`, or because the caller gave it up, of which
the server is told. Source: `docs/protocol.md`; how to use it: `docs/how-to/use-the-client.md`.
"""

from open_autoglm.client.answer import Answer, Usage
from open_autoglm.client.async_client import AsyncClient
from open_autoglm.client.failures import FailedError, RejectedError, UnavailableError
from open_autoglm.client.request import Options, TensorOptions
from open_autoglm.client.stream import AnswerStream
from open_autoglm.client.sync_client import Client, SyncAnswerStream
from open_autoglm.client.tensors import TensorAnswer
from open_autoglm.errors import AutoGLMError, RequestError, ServerError, UpstreamError

__all__ = [
    "Answer",
    "AnswerStream",
    "AsyncClient",
    "AutoGLMError",
    "Client",
    "FailedError",
    "Options",
    "RejectedError",
    "RequestError",
    "ServerError",
    "SyncAnswerStream",
    "TensorAnswer",
    "TensorOptions",
    "UnavailableError",
    "UpstreamError",
    "Usage",
]
