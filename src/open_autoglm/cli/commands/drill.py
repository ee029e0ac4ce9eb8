"""`autoglm drill`: put a gateway through the fault suite, and print its scorecard.

Without a target it starts a server of its own, with its default configuration, and drills that.
"""

from __future__ import annotations

import asyncio
import ssl
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING

from open_autoglm.cli.arguments import count
from open_autoglm.cli.failure import DONE, FAILED, WRONG_USAGE, CommandFailed
from open_autoglm.cli.http_call import parse_address
from open_autoglm.cli.keys import key_from
from open_autoglm.cli.table import print_table
from open_autoglm.cli.terminal import Terminal

if TYPE_CHECKING:
    from open_autoglm.testing.cases import Case
    from open_autoglm.testing.drill import Drill, Result
    from open_autoglm.testing.hearing import Door
    from open_autoglm.testing.scorecard import Score

LISTEN = "127.0.0.1:9100"
_STYLES = {"rescued": "green", "told": "yellow", "wrong": "red"}


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    parser.add_argument("--target", metavar="URL", help="the gateway; default: a server started for the drill")
    parser.add_argument(
        "--key-file", metavar="FILE", help="file with an API key of the gateway; default: the key in MCP_API_KEY"
    )
    parser.add_argument("--ca", metavar="FILE", help="PEM file of the authorities to trust for https")
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="drill this one model, one fault after the other; default: a model for each fault, drill-01 and so on",
    )
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        type=_place,
        default=_place(LISTEN),
        help=f"of the first of the four scripted upstreams; the others have the ports after it; default {LISTEN}",
    )
    parser.add_argument(
        "--print-config",
        metavar="GATEWAY",
        choices=("open-autoglm", "litellm", "nginx"),
        help="print a configuration for the drill (open-autoglm, litellm or nginx), and do nothing else",
    )
    parser.add_argument(
        "--continue",
        dest="going_on",
        action="store_true",
        help="configure that broken streams are continued: in the server of the drill's own, or with --print-config",
    )
    parser.add_argument("--all", action="store_true", help="more faults than the sixteen")
    parser.add_argument("--only", metavar="NAMES", help="these faults alone, by name or number, with commas between")
    parser.add_argument(
        "--rounds", metavar="COUNT", type=count, default=2, help="requests of each kind, default %(default)s"
    )
    parser.add_argument("--list", action="store_true", help="list the faults, and what upstreams can do wrong")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Drill; exit code 1 when anything is wrong."""
    if arguments.list:
        return _list(terminal)
    from open_autoglm.testing.drill import Drill

    cases = _cases(arguments)
    if arguments.print_config is not None:
        terminal.piece(_configuration(arguments, cases))
        return DONE
    watcher = None if arguments.json else _Watcher(terminal, len(cases))
    drill = Drill(_door(arguments, terminal), cases, arguments.model, arguments.rounds, watcher)
    with asyncio.Runner() as runner:
        results = runner.run(_drill(drill, arguments, cases))
    return _report(results, arguments, terminal)


async def _drill(drill: Drill, arguments: Namespace, cases: tuple[Case, ...]) -> list[Result]:
    from open_autoglm.testing.own_server import own_server

    host, port = arguments.listen
    try:
        await drill.host(host, 0 if arguments.target is None else port)
    except OSError as error:
        drill.close()
        raise CommandFailed(f"the upstreams cannot listen at {host}:{port} and after: {error.strerror}") from error
    try:
        if arguments.target is not None:
            return await drill.run()
        urls = {name: upstream.url for name, upstream in drill.upstreams.items()}
        async with own_server(cases, urls, arguments.going_on) as door:
            drill.door = door
            return await drill.run()
    finally:
        drill.close()


def _cases(arguments: Namespace) -> tuple[Case, ...]:
    from open_autoglm.testing.cases import CASES, SIXTEEN

    if arguments.only is None:
        return CASES if arguments.all else SIXTEEN
    names = [name.strip() for name in arguments.only.split(",")]
    known = {name: case for case in CASES for name in (case.name, str(case.number))}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise CommandFailed(f"no fault {unknown[0]!r}; `autoglm drill --list` lists them", WRONG_USAGE)
    return tuple(known[name] for name in names)


def _door(arguments: Namespace, terminal: Terminal) -> Door:
    from open_autoglm.testing.hearing import Door

    if arguments.target is None:
        return Door("", 0)
    address = parse_address(arguments.target)
    tls = ssl.create_default_context(cafile=arguments.ca) if address.tls else None
    path = f"{address.base_path.removesuffix('/v1')}/v1/chat/completions"
    return Door(address.host, address.port, tls, path, key_from(terminal, "MCP_API_KEY", arguments.key_file))


def _configuration(arguments: Namespace, cases: tuple[Case, ...]) -> str:
    from open_autoglm.testing.drill import UPSTREAMS
    from open_autoglm.testing.gateway_config import CONFIGURATIONS, Wanted

    host, port = arguments.listen
    urls = {name: f"http://{host}:{port + number}/v1" for number, name in enumerate(UPSTREAMS)}
    return CONFIGURATIONS[arguments.print_config](Wanted(cases, urls, going_on=arguments.going_on))


def _list(terminal: Terminal) -> int:
    from open_autoglm.testing.cases import CASES
    from open_autoglm.testing.faults import FAULTS

    rows = [(case.number, case.name, case.title, "" if case.standard else "--all") for case in CASES]
    print_table(terminal, ("#", "fault", "what happens", "with"), rows)
    terminal.line()
    behaviours = [(fault.name, fault.summary) for fault in FAULTS.values()]
    print_table(terminal, ("behaviour", "of an upstream"), behaviours)
    return DONE


class _Watcher:
    """Shows each fault when it is over, on standard error."""

    def __init__(self, terminal: Terminal, cases: int) -> None:
        self._terminal = terminal
        self._left = cases

    def __call__(self, case: Case, results: list[Result]) -> None:
        self._left -= 1
        grades = ", ".join(sorted({result.verdict.grade for result in results}))
        self._terminal.note(f"{case.number:>2} {case.name}: {grades}  ({self._left} to go)")


def _report(results: list[Result], arguments: Namespace, terminal: Terminal) -> int:
    from open_autoglm.testing.scorecard import as_json, is_clean, score, totals

    scores = score(results)
    if arguments.json:
        terminal.json(as_json(scores))
        return DONE if is_clean(scores) else FAILED
    terminal.line()
    print_table(terminal, ("#", "fault", "kind", "grade", "slowest s", "tries", "why"), [_row(each) for each in scores])
    terminal.line()
    for kind, counted in totals(scores).items():
        told = ", ".join(terminal.styled(f"{times} {grade}", _STYLES[grade]) for grade, times in counted.items())
        terminal.line(f"{kind:>6}: {told}")
    return DONE if is_clean(scores) else FAILED


def _row(each: Score) -> tuple[object, ...]:
    kind = "stream" if each.stream else "unary"
    return each.number, each.title, kind, each.cell, each.slowest_s, each.most_tries, each.why


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    number = int(port) if port.isdecimal() else 0
    if not host or not 1 <= number <= 65532:
        raise ArgumentTypeError(f"{text!r} is no HOST:PORT with a port from 1 to 65532")
    return host, number
