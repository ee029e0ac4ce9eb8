"""`autoglm node`: an inference node, until a signal ends it."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING, Final

from open_autoglm.cli.arguments import count, port_number, wait_s
from open_autoglm.cli.secret_file import read_secret
from open_autoglm.cli.table import print_table
from open_autoglm.cli.terminal import Terminal
from open_autoglm.quantities import parse_size

if TYPE_CHECKING:
    from open_autoglm.inference.node import StartedNode

_CLASSES: Final = ("cpu", "gpu", "tpu", "edge")
_VERSION_CHARACTERS: Final = 12


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    parser.add_argument(
        "--model",
        metavar="NAME=SOURCE",
        type=named_source,
        action="append",
        required=True,
        help="a model and where it comes from, as glm-nano=embedded:glm-nano; may be given several times",
    )
    parser.add_argument(
        "--join", metavar="HOST:PORT", action="append", default=[], help="a member of the cluster; needs --secret-file"
    )
    parser.add_argument(
        "--name", help="its name in the cluster, unique there; default: the machine's name and the gossip port"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: 127.0.0.1")
    parser.add_argument(
        "--advertise", metavar="IP", help="the address under which the cluster reaches it; default: that of --host"
    )
    parser.add_argument("--port", type=port_number, default=8090, help="default: 8090; 0 takes a free one")
    parser.add_argument(
        "--admin-port",
        metavar="PORT",
        type=port_number,
        default=0,
        help="of /healthz, /readyz and /metrics on 127.0.0.1; default: a free one",
    )
    parser.add_argument(
        "--gossip-port",
        metavar="PORT",
        type=port_number,
        default=0,
        help="for the other members, UDP and TCP; default: a free one",
    )
    parser.add_argument("--class", dest="node_class", choices=_CLASSES, default="cpu", help="default: cpu")
    parser.add_argument("--slots", type=count, default=4, help="requests per forward pass; default: 4")
    parser.add_argument(
        "--memory", metavar="SIZE", type=size_bytes, default=0, help="for keys and values of each model, as 2GiB"
    )
    parser.add_argument(
        "--prefix-memory",
        metavar="SIZE",
        type=size_bytes,
        default=0,
        help="of it for finished prompts that the next one of a session may begin with; default: none",
    )
    parser.add_argument(
        "--gpu-fraction",
        metavar="SHARE",
        type=share,
        default=0.9,
        help="of an accelerator's memory that this process may take; default: 0.9",
    )
    parser.add_argument(
        "--threads", type=count, default=0, help="of ONNX Runtime or PyTorch for one pass; default: their own choice"
    )
    parser.add_argument("--secret-file", metavar="FILE", help="the cluster's secret; without one, on 127.0.0.1 only")
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate of the listener, PEM; without one, no TLS")
    parser.add_argument("--tls-key", metavar="FILE", help="private key of --tls-cert, PEM")
    parser.add_argument(
        "--tls-client-ca", metavar="FILE", help="let in only who has a certificate that these authorities signed, PEM"
    )
    parser.add_argument("--data-dir", metavar="DIR", help="where versions of models are kept; without one, no updates")
    parser.add_argument(
        "--drain", metavar="SECONDS", type=wait_s, default=30.0, help="for running requests at the end; default: 30"
    )
    parser.add_argument("--standard-loop", action="store_true", help="asyncio's own event loop instead of uvloop")


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Run a node."""
    from open_autoglm.inference.node import run_node
    from open_autoglm.inference.settings import EngineSettings, NodeSettings
    from open_autoglm.transport.settings import TlsFiles

    settings = NodeSettings(
        models=tuple(arguments.model),
        host=arguments.host,
        port=arguments.port,
        admin_port=arguments.admin_port,
        advertise=arguments.advertise,
        gossip_port=arguments.gossip_port,
        node_class=arguments.node_class,
        secret=read_secret(arguments.secret_file),
        join=tuple(arguments.join),
        name=arguments.name,
        tls=TlsFiles(arguments.tls_cert, arguments.tls_key, arguments.tls_client_ca),
        data_dir=arguments.data_dir,
        drain_s=arguments.drain,
        standard_loop=arguments.standard_loop,
        engine=EngineSettings(
            slots=arguments.slots,
            memory_max=arguments.memory,
            prefix_bytes_max=arguments.prefix_memory,
            gpu_memory_fraction=arguments.gpu_fraction,
            threads=arguments.threads,
        ),
    )
    return run_node(settings, lambda started: announce(started, terminal))


def announce(started: StartedNode, terminal: Terminal) -> None:
    """Print where a node listens and what it runs."""
    from open_autoglm.membership.member import join_address

    scheme = "mcps" if started.tls else "mcp"
    terminal.line(f"listening on {terminal.styled(f'{scheme}://{join_address(*started.address)}', 'bold')}")
    terminal.line(f"health and metrics on http://{join_address(*started.admin_address)}")
    if started.cluster:
        terminal.line(f"member {started.cluster} of the cluster")
    terminal.line()
    rows = [
        [model["name"], model["source"], model["version"][:_VERSION_CHARACTERS], started.node_class, model["slots"]]
        for model in started.models
    ]
    print_table(terminal, ("model", "source", "version", "class", "slots"), rows)
    terminal.out.flush()


def named_source(text: str) -> tuple[str, str]:
    """Read `NAME=SOURCE`.

    Raises:
        ArgumentTypeError: it is none.
    """
    name, equals, source = text.partition("=")
    if not (name and equals and source) or len(name.encode()) > 255 or any(each.isspace() for each in name):
        raise ArgumentTypeError(f"{text!r} is no NAME=SOURCE; write it as glm-nano=embedded:glm-nano")
    return name, source


def size_bytes(text: str) -> int:
    """Read a size, as `512MiB`.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        return parse_size(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is no size; write it as 512MiB") from error


def share(text: str) -> float:
    """Read a share, above 0 and at most 1.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if 0.0 < value <= 1.0:
        return value
    raise ArgumentTypeError(f"{text!r} is no share; write a number above 0, at most 1")
