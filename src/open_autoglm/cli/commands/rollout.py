"""`autoglm rollout`: versions of models: packed, sent to nodes, tried on some of the requests, promoted, taken back."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from open_autoglm.cli.admin import add_admin_options, find_admin, segment
from open_autoglm.cli.arguments import count, wait_s
from open_autoglm.cli.failure import DONE, FAILED, CommandFailed
from open_autoglm.cli.secret_file import read_secret
from open_autoglm.cli.table import print_table
from open_autoglm.cli.terminal import Terminal
from open_autoglm.quantities import parse_size

if TYPE_CHECKING:
    import ssl

    from open_autoglm.inference.model_store import StoredVersion
    from open_autoglm.inference.update_receiver import Result
    from open_autoglm.inference.update_sender import Connect
    from open_autoglm.resilience.token_bucket import TokenBucket
    from open_autoglm.rollout.manifest import GoldenPrompt

PORT_MAX: Final = 65_535
ACTIONS: Final = ("status", "pack", "push", "commit", "start", "weights", "promote", "rollback")
SHOWN_CHARACTERS: Final = 12
BYTES_PER_S: Final = 8 << 20


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    parser.add_argument("action", choices=ACTIONS, nargs="?", default="status", help="default: status")
    parser.add_argument("model", nargs="?", help="its name; of `pack` and `push`: a folder")
    parser.add_argument("version", nargs="?", help="of `start` and `commit`: which version")
    shares = parser.add_argument_group("start, weights, commit")
    shares.add_argument(
        "--percent", type=percent, default=None, help="the candidate's share; default of start: 20, of commit: 100"
    )
    shares.add_argument("--window", metavar="SECONDS", type=wait_s, help="how far back errors count; default: 60")
    shares.add_argument("--requests", type=count, help="before the candidate is judged; default: 20")
    shares.add_argument("--errors", metavar="PERCENT", type=percent, help="of them that may fail; default: 5")
    shares.add_argument("--promote-after", metavar="SECONDS", type=wait_s, help="without a fault; default: by hand")
    made = parser.add_argument_group("pack, push, commit")
    made.add_argument("--name", help="of the model; default: the folder's name")
    made.add_argument("--tasks", default="", help="of `pack`: what it was trained on, as arithmetic,intent")
    made.add_argument("--digits", type=count, default=3, help="of `pack`: most digits of a number; default: 3")
    made.add_argument(
        "--golden", metavar="FILE", help="of `pack`: JSON Lines of prompt and answer that it must answer so"
    )
    made.add_argument("--out", metavar="DIR", help="of `pack`, for a folder of ONNX or Transformers: a new folder")
    made.add_argument("--node", metavar="HOST:PORT", action="append", default=[], help="may be given several times")
    made.add_argument("--parent", metavar="DIR", help="of `push`: a version that the node has, to send differences")
    made.add_argument("--rate", metavar="SIZE", type=size, default=BYTES_PER_S, help="bytes a second; default: 8MiB")
    made.add_argument("--policy", choices=("pin", "follow", "restart", "abort"), default="pin", help="default: pin")
    made.add_argument("--secret-file", metavar="FILE", help="the cluster's secret")
    made.add_argument(
        "--node-ca", metavar="FILE", help="authorities of nodes at mcps://HOST:PORT; default: the system's"
    )
    made.add_argument("--node-cert", metavar="FILE", help="certificate for nodes that ask for one, PEM")
    made.add_argument("--node-key", metavar="FILE", help="private key of --node-cert, PEM")
    add_admin_options(parser)


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Do what the action says."""
    match arguments.action:
        case "status":
            return _status(arguments, terminal)
        case "pack":
            return _pack(arguments, terminal)
        case "push":
            return _push(arguments, terminal)
        case "commit":
            return _commit(arguments, terminal)
        case _:
            return _step(arguments, terminal)


def percent(text: str) -> int:
    """Read a whole number of percent.

    Raises:
        ArgumentTypeError: it is none.
    """
    if text.isascii() and text.isdigit() and int(text) <= 100:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is no percentage; write a whole number from 0 to 100")


def size(text: str) -> int:
    """Read a number of bytes, as 8MiB.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        return max(1, parse_size(text))
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error


def _status(arguments: Namespace, terminal: Terminal) -> int:
    value = find_admin(arguments, terminal).get("/rollouts")
    if arguments.json:
        terminal.json(value)
    elif value["rollouts"]:
        print_table(terminal, ("model", "state", "share", "version", "requests", "failures", "nodes"), rows_of(value))
    else:
        terminal.note("no rollout was started")
    return DONE


def rows_of(value: dict[str, Any]) -> list[list[object]]:
    """Two rows for each rollout: the candidate's, and the stable version's."""
    rows: list[list[object]] = []
    for each in value["rollouts"]:
        for side, share in (("candidate", each["share"]), ("stable", 1.0 - each["share"])):
            told = each[side]
            rows.append(
                [
                    each["model"],
                    each["state"] if side == "candidate" else "",
                    f"{share:.0%}",
                    f"{told['version'][:SHOWN_CHARACTERS]} ({side})",
                    told["requests"],
                    told["failures"],
                    len(told.get("nodes", ())),
                ]
            )
    return rows


def _step(arguments: Namespace, terminal: Terminal) -> int:
    model, action = _needed(arguments, "model"), arguments.action
    fields: dict[str, object] = {}
    if action == "start":
        fields = {
            "version": _needed(arguments, "version"),
            "percent": 20 if arguments.percent is None else arguments.percent,
            "window_s": arguments.window and int(arguments.window),
            "requests_min": arguments.requests,
            "errors_percent": arguments.errors,
            "promote_after_s": arguments.promote_after and int(arguments.promote_after),
        }
    elif action == "weights":
        if arguments.percent is None:
            raise CommandFailed("rollout weights: give the candidate's share with --percent")
        fields = {"percent": arguments.percent}
    row = find_admin(arguments, terminal).post(f"/rollouts/{segment(model)}/{action}", **fields)
    if arguments.json:
        terminal.json(row)
    else:
        terminal.line(f"{row['model']}: {row['state']}, {row['share']:.0%} to {row['candidate']['version']}")
    return DONE


def _pack(arguments: Namespace, terminal: Terminal) -> int:
    from open_autoglm.engines.embedded.tokenizer import NAME
    from open_autoglm.inference.model_store import CONFIG, CONFIG_BYTES_MAX, WEIGHTS
    from open_autoglm.rollout import manifest as manifests
    from open_autoglm.rollout.layout import canonical_body, write_header

    folder = Path(_needed(arguments, "model"))
    golden = _golden(arguments.golden) if arguments.golden else ()
    if arguments.out:
        return _pack_folder(folder, golden, arguments, terminal)
    config = (folder / CONFIG).read_bytes()
    if len(config) > CONFIG_BYTES_MAX:
        raise CommandFailed(f"{folder / CONFIG} is longer than {CONFIG_BYTES_MAX} bytes")
    places, body = canonical_body((folder / WEIGHTS).read_bytes())
    tasks = _tasks(arguments.tasks)
    manifest = manifests.build(
        arguments.name or folder.resolve().name,
        places,
        body,
        config,
        properties={"engine": "embedded", "tokenizer": NAME, "tasks": tasks, "digits_max": arguments.digits},
        golden=golden,
    )
    key = _key(arguments)
    if key is not None:
        manifest = manifests.sign(manifest, key)
    (folder / WEIGHTS).write_bytes(write_header(places) + body)
    (folder / "manifest.json").write_bytes(manifest.encode())  # the last: a folder that is watched is now complete
    terminal.line(manifest.version)
    return DONE


def _tasks(text: str) -> list[str]:
    from open_autoglm.engines.embedded.abilities import TASKS

    tasks = sorted({task for task in text.split(",") if task})
    unknown = [task for task in tasks if task not in TASKS]
    if unknown:
        raise CommandFailed(f"--tasks: there is no task {unknown[0]!r}; there are {', '.join(TASKS)}")
    return tasks


def _pack_folder(folder: Path, golden: tuple[GoldenPrompt, ...], arguments: Namespace, terminal: Terminal) -> int:
    """Of a folder with a manifest for ONNX Runtime or Transformers, make one that can be pushed."""
    from open_autoglm.engines.model_folder import ModelFolder
    from open_autoglm.inference.folder_versions import pack

    name = arguments.name or folder.resolve().name
    manifest = pack(ModelFolder(folder), Path(arguments.out), name, _key(arguments), golden=golden)
    terminal.line(manifest.version)
    return DONE


def _golden(file: str) -> tuple[GoldenPrompt, ...]:
    import msgspec

    from open_autoglm.rollout.manifest import GoldenPrompt

    golden = []
    for number, line in enumerate(Path(file).read_bytes().splitlines(), 1):
        try:
            golden.append(msgspec.json.decode(line, type=GoldenPrompt))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            wanted = '{"prompt": "12 + 30", "answer": "42"}'
            raise CommandFailed(f"--golden {file}, line {number}: {error}; write lines as {wanted}") from error
    return tuple(golden)


def _push(arguments: Namespace, terminal: Terminal) -> int:
    from open_autoglm.inference.model_store import StoredVersion
    from open_autoglm.inference.update_sender import send_update
    from open_autoglm.rollout.chunks import chunk_bytes_at, cut
    from open_autoglm.rollout.delta import BodySource
    from open_autoglm.rollout.reception import Offer

    key = _key(arguments)
    with StoredVersion(Path(_needed(arguments, "model")), key) as stored:
        parent = StoredVersion(Path(arguments.parent), key) if arguments.parent else None
        body = stored.body()
        plan = cut(body, chunk_bytes_at(arguments.rate, len(body)))
        source = BodySource(plan, body, parent.body() if parent else None, word_bytes=_word_bytes(stored))
        told = parent.manifest.version if parent else None
        offer = Offer(stored.manifest.encode().decode(), stored.config.decode(), plan, told)

    def send(connect: Connect) -> Awaitable[Result]:
        return send_update(connect, offer, source, throttle(arguments.rate, plan.chunk_bytes))

    return _ask_nodes(arguments, terminal, send)


def throttle(rate: int, chunk_bytes: int) -> TokenBucket:
    """Lets so many bytes a second through, and at once no more than a quarter of a second's, or one chunk."""
    from open_autoglm.resilience.token_bucket import TokenBucket

    return TokenBucket(float(rate), max(rate / 4, float(chunk_bytes)), 0.0)


def _commit(arguments: Namespace, terminal: Terminal) -> int:
    from open_autoglm.inference.update_receiver import Commit
    from open_autoglm.inference.update_sender import command

    share = 1.0 if arguments.percent is None else arguments.percent / 100
    commit = Commit(_needed(arguments, "model"), _needed(arguments, "version"), arguments.policy, share=share)
    return _ask_nodes(arguments, terminal, lambda connect: command(connect, commit))


def _ask_nodes(arguments: Namespace, terminal: Terminal, ask: Callable[[Connect], Awaitable[Result]]) -> int:
    """Ask each node in turn, and say what came of it; one that does not do it does not keep the others from it."""
    connects = {node: _connect(node, arguments) for node in _nodes(arguments)}
    done = [_ask_node(node, connect, ask, terminal) for node, connect in connects.items()]
    return DONE if all(done) else FAILED


def _ask_node(node: str, connect: Connect, ask: Callable[[Connect], Awaitable[Result]], terminal: Terminal) -> bool:
    """Ask one node, and return whether it has done it."""
    from open_autoglm.errors import AutoGLMError
    from open_autoglm.inference.update_sender import UpdateLost

    async def asked() -> Result:
        return await ask(connect)

    try:
        result = asyncio.run(asked())
    except (UpdateLost, AutoGLMError) as error:
        terminal.error(f"{node}: {error}")
        return False
    if result.outcome == "refused":
        terminal.error(f"{node} refused ({result.reason}): {result.message}")
        return False
    terminal.line(f"{node}: {result.outcome} {result.version}")
    return True


def _connect(node: str, arguments: Namespace) -> Connect:
    from open_autoglm.inference.update_sender import framed_line
    from open_autoglm.protocol.handshake import VERSIONS, Hello
    from open_autoglm.security.signature import SigningKey
    from open_autoglm.transport.framed_shell import Flusher

    place, tls = node.removeprefix("mcps://"), None
    host, _, port = place.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and 1 <= int(port) <= PORT_MAX):
        raise CommandFailed(
            f"--node {node!r}: write HOST:PORT, or mcps://HOST:PORT where it speaks TLS; ports are 1 to {PORT_MAX}"
        )
    if place != node:
        tls = _tls(arguments)
    secret = read_secret(arguments.secret_file)
    key = None if secret is None else SigningKey(secret.reveal())
    hello = Hello(versions=list(VERSIONS), codecs=["json"], agent="autoglm rollout")
    return lambda: framed_line(
        hello, host.strip("[]"), int(port), Flusher(asyncio.get_running_loop()), key=key, tls=tls
    )


def _tls(arguments: Namespace) -> ssl.SSLContext:
    from open_autoglm.errors import ConfigError
    from open_autoglm.transport.settings import TlsClientFiles
    from open_autoglm.transport.tls import upstream_context

    try:
        return upstream_context(TlsClientFiles(arguments.node_ca, arguments.node_cert, arguments.node_key))
    except ConfigError as error:
        raise CommandFailed(error.problems[0].message) from error


def _word_bytes(stored: StoredVersion) -> int:
    from open_autoglm.rollout.delta import word_size

    sizes: dict[str, int] = {}
    for place in stored.manifest.places():
        sizes[place.dtype] = sizes.get(place.dtype, 0) + place.end - place.start
    return word_size(sizes)


def _nodes(arguments: Namespace) -> list[str]:
    if not arguments.node:
        raise CommandFailed(f"rollout {arguments.action}: give one --node HOST:PORT or more")
    return list(arguments.node)


def _needed(arguments: Namespace, what: str) -> str:
    value = getattr(arguments, what)
    if not value:
        raise CommandFailed(f"rollout {arguments.action}: the {what} is missing")
    return str(value)


def _key(arguments: Namespace) -> bytes | None:
    from open_autoglm.membership.seal import derive_key

    secret = read_secret(arguments.secret_file)
    return None if secret is None else derive_key(secret.reveal().encode(), "models")
