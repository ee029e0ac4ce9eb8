"""What may be written of tools: functions, HTTP services, servers of the context protocol, and what bounds them all."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from open_autoglm.quantities import Bytes, Seconds
from open_autoglm.secret import Secret
from open_autoglm.tools.tool import ToolKind

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
ArgumentType = Literal["string", "integer", "number", "boolean", "array", "object"]
Cost = Annotated[float, Meta(ge=0, le=1_000_000)]
Concurrency = Annotated[int, Meta(ge=1, le=1024)]


class PythonToolEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """A function of this process as a tool. What it may be given is read from its type hints.

    Attributes:
        name: under which tasks call it.
        function: `module:function`; async functions run in the server's loop, others in a thread.
        description: for models and people; the first paragraph of the function's own when left out.
        kind: `read` changes nothing, `write` may be repeated with the same idempotency key, `dangerous` needs a person.
        timeout_s: for one call. A thread cannot be stopped: what runs longer is no longer waited for.
        cost: of one call, in the currency of the prices.
        concurrency: calls at once.
    """

    name: str
    function: str
    description: str = ""
    kind: ToolKind = field(default="write", name="class")
    timeout_s: Seconds = field(default=10.0, name="timeout")
    cost: Cost = 0.0
    concurrency: Concurrency = 8


class HttpArgument(Struct, frozen=True, forbid_unknown_fields=True):
    """One argument of an HTTP tool.

    Attributes:
        type: of its value; only `string`, `integer`, `number` and `boolean` may stand in the URL.
        description: for models and people.
        required: whether it must be given; those in the URL's path always must.
        enum: the texts that it may be; any when left out.
    """

    type: ArgumentType = "string"
    description: str = ""
    required: bool = True
    enum: list[str] = []


class HttpToolEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """A route of an HTTP service as a tool.

    Attributes:
        name: under which tasks call it.
        url: `https://HOST/PATH/{argument}?name={argument}`; what is put in is encoded, and the host is always this one.
        method: of the request. Arguments that the URL does not name go into a JSON body, or with `GET` and
            `DELETE` into the query.
        description: for models and people.
        arguments: by name; those that the URL names and this does not are texts.
        headers: sent with each call, as `authorization: ${TOKEN}`.
        kind: `read` changes nothing, `write` may be repeated with the same idempotency key, `dangerous` needs a person;
            `read` for `GET` when left out, else `write`.
        timeout_s: for one call.
        cost: of one call, in the currency of the prices.
        concurrency: calls at once.
        answer_bytes: longest body of an answer.
        allow_private: whether the host may have an address that is not of the public Internet. Without it the host
            must be reached by https, too.
    """

    name: str
    url: str
    method: Method = "GET"
    description: str = ""
    arguments: dict[str, HttpArgument] = {}
    headers: dict[str, Secret] = {}
    kind: ToolKind | None = field(default=None, name="class")
    timeout_s: Seconds = field(default=10.0, name="timeout")
    cost: Cost = 0.0
    concurrency: Concurrency = 8
    answer_bytes: Bytes = 256 * 2**10
    allow_private: bool = False


class ContextServerEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """A server of the context protocol, whose tools become `NAME.TOOL`. Needs the extra `context`.

    Attributes:
        name: before the names of its tools.
        command: program and arguments of a server that is started as a child and spoken to over stdin and stdout.
        url: of a server that is spoken to over streamable HTTP, instead of `command`.
        env: variables of the child; besides these it has PATH, HOME and LANG only.
        cwd: working directory of the child.
        headers: sent to `url` with each request, as `authorization: ${TOKEN}`.
        tools: names of its tools that may be used; all when left out.
        classes: `read`, `write` or `dangerous` for its tools by name; `write` for those that are not here. What the
            server itself says of its tools is not believed.
        timeout_s: for one call, and for the connection.
        cost: of one call, in the currency of the prices.
        concurrency: calls of one tool at once.
        message_bytes: longest message of the server: a line of a child, or an answer over HTTP. A child that sends a
            longer one is ended.
        allow_private: whether the host of `url` may have an address that is not of the public Internet. Without it the
            host must be reached by https, too.
    """

    name: str
    command: list[str] = []
    url: str | None = None
    env: dict[str, Secret] = {}
    cwd: str | None = None
    headers: dict[str, Secret] = {}
    tools: list[str] | None = None
    classes: dict[str, ToolKind] = {}
    timeout_s: Seconds = field(default=30.0, name="timeout")
    cost: Cost = 0.0
    concurrency: Concurrency = 8
    message_bytes: Bytes = 4 * 2**20
    allow_private: bool = False


class ToolSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What tasks of virtual models may call, and what bounds each call.

    Attributes:
        calculator: whether there is the tool `calculator`, which computes exactly.
        python: functions of this process.
        http: routes of HTTP services.
        context: servers of the context protocol.
        argument_bytes: longest arguments of a call, as JSON.
        result_bytes: longest result of a call, as JSON; it may become part of a prompt.
        threads: functions that are not async and run at once.
    """

    calculator: bool = True
    python: list[PythonToolEntry] = []
    http: list[HttpToolEntry] = []
    context: list[ContextServerEntry] = []
    argument_bytes: Bytes = 256 * 2**10
    result_bytes: Bytes = 256 * 2**10
    threads: Annotated[int, Meta(ge=1, le=256)] = 8
