"""Nodes that become endpoints, with members that are told of by hand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from msgspec import structs

from open_autoglm.backends.node import NodeBackend
from open_autoglm.cluster.settings import ClusterSettings, ClusterTls
from open_autoglm.config import parse_config
from open_autoglm.config.schema import ServerConfig
from open_autoglm.dissemination import ReplicatedMap
from open_autoglm.dissemination.entry import write_all
from open_autoglm.errors import RequestError
from open_autoglm.membership.load import LoadReport, write_load
from open_autoglm.membership.member import Record
from open_autoglm.membership.wire import Reported, Verdict
from open_autoglm.secret import Secret
from open_autoglm.server.assembly import Assembly
from open_autoglm.server.discovery import Discovery
from open_autoglm.telemetry.metrics import Metrics

CONFIG = """
models: [{name: chat, endpoint: "http://127.0.0.1:9/v1"}, {name: fixed, endpoint: "mcp://10.0.0.1:2"}]
cluster: {secret: 0123456789abcdef, bind: "127.0.0.1:0", name: me}
"""


def node(name: str, *models: str, host: str = "10.0.0.1", **more: object) -> Record:
    """A node at port 2 of an address."""
    return Record(
        id=name,
        role="node",
        node_class="cpu",
        start=1,
        gossip=f"{host}:1",
        address=f"{host}:2",
        models=tuple((model, "1") for model in models),
        **more,  # type: ignore[arg-type]
    )


@dataclass
class Bench:
    """A discovery with a real assembly, and what it was asked to do."""

    config: ServerConfig
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    renewed: int = 0
    tls: ClusterTls | None = None

    def __post_init__(self) -> None:
        def no_embedded(entry: object) -> object:
            raise AssertionError("there is none")

        self.assembly = Assembly(self.loop, random.Random(1), b"pepper", no_embedded, self.loop.time)  # type: ignore[arg-type]
        settings = ClusterSettings(secret=Secret("0123456789abcdef"), bind="127.0.0.1:0", name="me", tls=self.tls)
        self.discovery = Discovery(
            settings, self.loop, parts=lambda: self.assembly.parts.values(), renew=self.renew, busy=lambda: (3, 1)
        )
        self.renew()
        self.renewed = 0

    def renew(self) -> None:
        """As the server does it."""
        self.renewed += 1
        self.assembly.adopt(self.assembly.build(self.discovery.extended(self.config), 1, 0))

    def hear(self, *news: Record | Verdict | Reported) -> None:
        """Let the member hear news."""
        member = self.discovery.member
        assert member is not None
        member.swim.roster.hear(news, self.loop.time())
        member._do(member.swim._take(self.loop.time()))

    def names(self) -> list[tuple[str, str]]:
        """What is served beside the configuration."""
        found = [(part.endpoint.model, part.endpoint.url) for part in self.assembly.parts.values()]
        return [
            each for each in found if each not in (("chat", "http://127.0.0.1:9/v1"), ("fixed", "mcp://10.0.0.1:2"))
        ]

    async def settle(self) -> None:
        """Let changes that belong together be carried out."""
        await asyncio.sleep(0.05)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    config = parse_config(CONFIG, source="x.yaml", environ={}, trusted=True).config
    bench = Bench(config)
    await bench.discovery.start(replaces=False)
    bench.discovery.set_address("127.0.0.1", 80)
    yield bench
    bench.discovery.close()
    bench.assembly.close()


async def test_models_of_nodes_come_and_go_in_one_step_each(bench: Bench) -> None:
    bench.hear(node("a", "chat", "new"), node("b", "new", host="10.0.0.2"))
    await bench.settle()
    assert bench.renewed == 1
    assert bench.names() == [("chat", "mcp://10.0.0.1:2"), ("new", "mcp://10.0.0.1:2"), ("new", "mcp://10.0.0.2:2")]
    kept = [part for part in bench.assembly.parts.values() if part.endpoint.url == "mcp://10.0.0.2:2"]
    bench.hear(Verdict("dead", "a", 1, 0, "me"))
    await bench.settle()
    assert bench.names() == [("new", "mcp://10.0.0.2:2")]
    assert [part for part in bench.assembly.parts.values() if part.endpoint.url == "mcp://10.0.0.2:2"] == kept


@pytest.mark.parametrize(
    "change",
    [
        Verdict("dead", "a", 1, 0, "me"),
        Verdict("left", "a", 1, 0, "a"),
        node("a", "new", incarnation=1, draining=True),
        node("a", incarnation=1),
    ],
    ids=["dead", "left", "draining", "without models"],
)
async def test_what_takes_a_node_out(bench: Bench, change: Record | Verdict) -> None:
    bench.hear(node("a", "new"))
    await bench.settle()
    assert bench.names() == [("new", "mcp://10.0.0.1:2")]
    bench.hear(change)
    await bench.settle()
    assert bench.names() == []
    assert bench.renewed == 2


async def test_a_suspect_stays_with_next_to_no_weight(bench: Bench) -> None:
    bench.hear(node("a", "new"))
    await bench.settle()
    [endpoint] = [part.endpoint for part in bench.assembly.parts.values() if part.endpoint.model == "new"]
    assert endpoint.weight == 1.0
    bench.hear(Verdict("suspect", "a", 1, 0, "b"))
    await bench.settle()
    assert (bench.renewed, endpoint.weight) == (1, 0.05)
    bench.hear(node("a", "new", incarnation=1))
    assert endpoint.weight == 1.0


async def test_a_load_report_changes_weights_at_once(bench: Bench) -> None:
    bench.hear(node("a", "new"))
    await bench.settle()
    [endpoint] = [part.endpoint for part in bench.assembly.parts.values() if part.endpoint.model == "new"]
    endpoint.in_flight = 2
    bench.hear(Reported("a", 1, LoadReport(slots=8, running=5, queue=8, number=1)))
    assert (endpoint.weight, endpoint.reported_load) == (1.0, 11.0)
    bench.discovery.hear_load("mcp://10.0.0.1:2", write_load(LoadReport(slots=8, cpu=0.5, number=2)))
    assert endpoint.weight == pytest.approx(1.0, abs=0.001)
    assert endpoint.reported_load == 0.0
    bench.discovery.hear_load("mcp://10.0.0.1:2", b"nonsense")
    assert endpoint.weight == pytest.approx(1.0, abs=0.001)


@pytest.mark.parametrize("strategy", ["ip_hash", "consistent_hash"])
async def test_keys_do_not_move_with_the_load(bench: Bench, strategy: str) -> None:
    routing = structs.replace(bench.config.routing, strategy=strategy)
    bench.config = structs.replace(bench.config, routing=routing)
    bench.hear(node("a", "new"), Reported("a", 1, LoadReport(slots=8, cpu=0.9, queue=8, number=1)))
    await bench.settle()
    [endpoint] = [part.endpoint for part in bench.assembly.parts.values() if part.endpoint.model == "new"]
    assert endpoint.weight == 1.0
    bench.hear(Verdict("suspect", "a", 1, 0, "b"))
    assert endpoint.weight == 0.05


async def test_what_is_configured_stays_as_it_is(bench: Bench) -> None:
    bench.hear(node("a", "fixed", "*", "bad\tname"))
    await bench.settle()
    assert bench.names() == []
    assert bench.renewed == 1
    assert len(bench.assembly.parts) == 2


async def test_servers_and_nodes_without_an_address_bring_nothing(bench: Bench) -> None:
    bench.hear(
        Record(id="s", role="server", start=1, gossip="h:1", address="h:2", models=(("x", "1"),)),
        Record(id="n", role="node", start=1, gossip="h:3", models=(("x", "1"),)),
    )
    await bench.settle()
    assert bench.renewed == 0


async def test_a_note_is_shown_and_replaced_only_by_who_saw_it(bench: Bench) -> None:
    bench.hear(node("a", "new"))
    first = bench.discovery.set_note("a", "new fan on Monday", "")
    assert first["note"] == "new fan on Monday"
    row = bench.discovery.rows()[1]
    assert (row["note"], row["note_version"]) == (first["note"], first["note_version"])
    with pytest.raises(RequestError) as refused:
        bench.discovery.set_note("a", "something else", "")
    assert (refused.value.code, refused.value.param) == ("conflict", "version")
    assert "new fan on Monday" in refused.value.message
    member = bench.discovery.member
    assert member is not None
    other = ReplicatedMap("z")
    other.write("note/a", b"from elsewhere", {}, 0.0)
    member.facts.take(write_all(other.everything(0.0)), "z")
    with pytest.raises(RequestError, match="'from elsewhere'"):
        bench.discovery.set_note("a", "both", first["note_version"])
    both = bench.discovery.rows()[1]["note_version"]
    assert bench.discovery.set_note("a", "both", both)["note"] == "both"
    gone = bench.discovery.set_note("a", "", bench.discovery.rows()[1]["note_version"])
    assert gone["note"] == bench.discovery.rows()[1]["note"] == ""
    with pytest.raises(RequestError, match="no member 'nobody'"):
        bench.discovery.set_note("nobody", "x", "")


async def test_rows_and_counts(bench: Bench) -> None:
    bench.hear(
        node("a", "new"),
        node("b", "new", host="10.0.0.2"),
        Reported("a", 1, LoadReport(cpu=0.5, slots=4, number=1)),
        Verdict("suspect", "b", 1, 0, "a"),
    )
    me, a, b = bench.discovery.rows()
    assert (me["id"], me["self"], me["address"], me["load"]["running"], me["load"]["queue"]) == (
        "me", True, "127.0.0.1:80", 3, 1,
    )  # fmt: skip
    assert (a["state"], a["class"], a["models"], a["load"]["slots"]) == (
        "alive",
        "cpu",
        [{"name": "new", "version": "1"}],
        4,
    )
    assert (b["state"], b["load"], b["delay_ms"]) == ("suspect", None, None)
    assert bench.discovery.counts() == {"alive": 2, "draining": 0, "suspect": 1, "dead": 0, "left": 0}
    assert bench.discovery.versions() == {("a", "new", "1"): 1, ("b", "new", "1"): 1}


async def test_the_key_of_nodes_is_not_the_secret(bench: Bench) -> None:
    bench.hear(node("a", "new"))
    [entry] = [entry for entry in bench.discovery.extended(bench.config).models if entry.name == "new"]
    assert entry.token is not None
    assert "0123456789abcdef" not in entry.token.reveal()


async def test_a_node_to_which_a_link_was_lost_is_asked_next_and_not_again_and_again(bench: Bench) -> None:
    bench.hear(node("a", "new", "other"), node("b", "new", host="10.0.0.2"))
    await bench.settle()
    member = bench.discovery.member
    assert member is not None
    urgent = member.swim.roster.urgent
    assert urgent == []
    lost = [part.backend for part in bench.assembly.parts.values() if part.endpoint.url == "mcp://10.0.0.1:2"]
    assert len(lost) == 3, "one of them is in the configuration"
    for backend in lost * 2:
        assert isinstance(backend, NodeBackend)
        backend.on_lost()
    assert urgent == ["a"]
    assert member.members["a"].state == "alive", "that is for the answer to say"


async def test_a_drained_node_gets_nothing_until_the_mark_is_gone(bench: Bench) -> None:
    bench.hear(node("a", "new"), node("b", "new", host="10.0.0.2"))
    await bench.settle()
    told: list[str] = []
    bench.discovery.on_fact.append(told.append)
    assert bench.discovery.set_drained("a", True)["drained"]
    await bench.settle()
    assert bench.names() == [("new", "mcp://10.0.0.2:2")]
    assert bench.discovery.served_versions("new") == [("mcp://10.0.0.2:2", "1")]
    assert [(row["id"], row["drained"]) for row in bench.discovery.rows()] == [("me", False), ("a", True), ("b", False)]
    bench.discovery.set_drained("a", True)
    assert told == ["drained/a"], "twice is once"
    assert not bench.discovery.set_drained("a", False)["drained"]
    await bench.settle()
    assert len(bench.names()) == 2
    for name, said in (("nobody", "no member"), ("me", "is a server")):
        with pytest.raises(RequestError, match=said):
            bench.discovery.set_drained(name, True)


async def test_a_mark_counts_before_its_removal_at_the_same_time(bench: Bench) -> None:
    bench.hear(node("a", "new"))
    await bench.settle()
    member = bench.discovery.member
    assert member is not None
    bench.discovery.set_drained("a", True)
    other = ReplicatedMap("z")
    other.merge(member.facts.map.everything(0.0), 0.0)
    other.write("drained/a", None, other.read("drained/a").vector, 0.0)
    bench.discovery.set_drained("a", False)
    bench.discovery.set_drained("a", True)
    member.facts.take(write_all(other.everything(0.0)), "z")
    assert len(member.facts.map.read("drained/a").entries) == 2
    assert bench.discovery.rows()[1]["drained"]


async def test_figures_of_facts(bench: Bench) -> None:
    bench.hear(node("a", "new"))
    metrics = Metrics(list)
    bench.discovery.gauges(metrics.gauge)
    bench.discovery.set_note("a", "x", "")
    bench.discovery.set_drained("a", True)
    member = bench.discovery.member
    assert member is not None
    other = ReplicatedMap("z")
    other.write("note/a", b"at once", {}, 0.0)
    for _ in range(2):
        member.facts.take(write_all(other.everything(0.0)), "z")
    lines = [line.rpartition(" ") for line in metrics.render().decode().splitlines() if line.startswith("mcp_facts")]
    assert {name: float(value) for name, _, value in lines} == {
        'mcp_facts{kind="note"}': 1,
        'mcp_facts{kind="drained"}': 1,
        'mcp_facts{kind="rollout"}': 0,
        'mcp_facts{kind="removed"}': 0,
        'mcp_facts{kind="other"}': 0,
        "mcp_facts_conflicts_open": 1,
        "mcp_facts_conflicts_total": 1,
        "mcp_facts_lost_total": 0,
        'mcp_facts_received_total{outcome="new"}': 1,
        'mcp_facts_received_total{outcome="known"}': 1,
        'mcp_facts_received_total{outcome="stale"}': 0,
        'mcp_facts_received_total{outcome="refused"}': 0,
        'mcp_facts_sent_bytes_total{way="delta"}': pytest.approx(100, abs=100),
        'mcp_facts_sent_bytes_total{way="state"}': 0,
    }
