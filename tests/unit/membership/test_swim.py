"""One member, step by step."""

import random
from itertools import pairwise

import pytest

from open_autoglm.membership import wire
from open_autoglm.membership.effects import Changed, Effect, Forgotten, Loaded, Send, Sync
from open_autoglm.membership.load import LoadReport
from open_autoglm.membership.member import Member, Record
from open_autoglm.membership.settings import SwimSettings
from open_autoglm.membership.suspicion import Suspicion
from open_autoglm.membership.swim import Swim

SETTINGS = SwimSettings(interval_s=1.0)
ME = Record(id="me", role="server", start=10, gossip="me:1")


def node(name: str, **more: object) -> Record:
    """Another member."""
    return Record(id=name, role="node", start=5, gossip=f"{name}:1", **more)  # type: ignore[arg-type]


def member(*others: str, settings: SwimSettings = SETTINGS) -> Swim:
    """A member that knows others and has told of them."""
    swim = Swim(ME, settings, random.Random(1), 0.0)
    swim.merge([wire.Entry("alive", node(name), None) for name in others], "somebody", 0.0)
    return swim


def sent(effects: list[Effect], kind: int) -> list[tuple[str, wire.Message]]:
    """Messages of a kind, with where they go."""
    messages = [(effect.to, wire.read_message(effect.message)) for effect in effects if isinstance(effect, Send)]
    return [(to, message) for to, message in messages if message.kind == kind]


def until(swim: Swim, kind: int, limit_s: float = 30.0) -> tuple[float, str, wire.Message]:
    """Let time pass until a message of a kind is sent."""
    while (now_s := swim.next_deadline()) < limit_s:
        for to, message in sent(swim.handle_timeout(now_s), kind):
            return now_s, to, message
    raise AssertionError("nothing was sent")


def state(swim: Swim, name: str) -> str:
    return swim.members[name].state


def test_a_question_to_me_is_answered_and_one_to_another_is_not() -> None:
    swim = member("a")
    effects = swim.handle(wire.Message(wire.PING, "a", 5, 7, "me"), "a:1", 1.0)
    [(to, answer)] = sent(effects, wire.ACK)
    assert (to, answer.nonce, answer.target, answer.sender) == ("a:1", 7, "me", "me")
    assert sent(swim.handle(wire.Message(wire.PING, "a", 5, 8, "former"), "a:1", 1.0), wire.ACK) == []


def test_an_answer_gives_the_delay() -> None:
    swim = member("a")
    now_s, to, question = until(swim, wire.PING)
    assert (to, question.target) == ("a:1", "a")
    swim.handle(wire.Message(wire.ACK, "a", 5, question.nonce, "a"), "a:1", now_s + 0.1)
    assert swim.members["a"].delay_s == pytest.approx(0.1)
    assert swim.members["a"].heard_s == now_s + 0.1


def test_silence_is_asked_about_through_others_before_it_is_suspected() -> None:
    swim = member("a", "b", "c", "d", "e")
    asked_s, _, question = until(swim, wire.PING)
    helped_s = swim.next_deadline()
    effects = []
    while helped_s < asked_s + 0.4:
        effects = swim.handle_timeout(helped_s)
        helped_s = swim.next_deadline()
    effects = swim.handle_timeout(helped_s)
    helpers = sent(effects, wire.PING_REQUEST)
    assert helped_s == pytest.approx(asked_s + 0.4)
    assert len({to for to, _ in helpers}) == 3
    assert all(message.target == question.target for _, message in helpers)
    assert f"{question.target}:1" not in {to for to, _ in helpers}
    assert state(swim, question.target) == "alive"
    while swim.next_deadline() <= asked_s + 1.0:
        swim.handle_timeout(swim.next_deadline())
    assert state(swim, question.target) == "suspect"
    assert swim.health == 3, "three helpers said nothing"


def test_an_answer_through_a_helper_counts_and_gives_no_delay() -> None:
    swim = member("a", "b")
    _, _, question = until(swim, wire.PING)
    helper = "b" if question.target == "a" else "a"
    until(swim, wire.PING_REQUEST)
    swim.handle(wire.Message(wire.ACK, helper, 5, question.nonce, question.target), f"{helper}:1", 0.9)
    while swim.next_deadline() < 2.0:
        swim.handle_timeout(swim.next_deadline())
    assert state(swim, question.target) == "alive"
    assert swim.members[question.target].delay_s is None


def test_helpers_that_asked_in_vain_and_say_so_speak_against_the_other() -> None:
    swim = member("a", "b")
    asked_s, _, question = until(swim, wire.PING)
    helper = "b" if question.target == "a" else "a"
    until(swim, wire.PING_REQUEST)
    swim.handle(wire.Message(wire.NACK, helper, 5, question.nonce, question.target), f"{helper}:1", 0.9)
    while swim.next_deadline() <= asked_s + 1.0:
        swim.handle_timeout(swim.next_deadline())
    assert state(swim, question.target) == "suspect"
    assert swim.health == 0


def test_a_helper_asks_passes_the_answer_on_or_says_that_none_came() -> None:
    swim = member("a", "b")
    request = wire.Message(wire.PING_REQUEST, "a", 5, 77, "b")
    [(to, question)] = sent(swim.handle(request, "a:1", 0.0), wire.PING)
    assert (to, question.target) == ("b:1", "b")
    effects = swim.handle(wire.Message(wire.ACK, "b", 5, question.nonce, "b"), "b:1", 0.1)
    [(to, answer)] = sent(effects, wire.ACK)
    assert (to, answer.nonce, answer.target) == ("a:1", 77, "b")
    swim.handle(request, "a:1", 0.2)
    now_s, to, refusal = until(swim, wire.NACK)
    assert (to, refusal.nonce) == ("a:1", 77)
    assert now_s == pytest.approx(0.6)
    [(_, unknown)] = sent(swim.handle(wire.Message(wire.PING_REQUEST, "a", 5, 78, "x"), "a:1", 0.7), wire.NACK)
    assert unknown.nonce == 78


def test_a_suspicion_of_me_is_contradicted_by_a_higher_incarnation() -> None:
    swim = member("a")
    verdict = wire.Verdict("suspect", "me", 10, 0, "a")
    swim.handle(wire.Message(wire.GOSSIP, "a", 5, news=[verdict]), "a:1", 1.0)
    assert (swim.roster.me.incarnation, swim.roster.refuted, swim.health) == (1, 1, 1)
    _, _, told = until(swim, wire.GOSSIP)
    assert swim.roster.me in told.news
    swim.handle(wire.Message(wire.GOSSIP, "a", 5, news=[verdict]), "a:1", 2.0)
    assert swim.roster.refuted == 1, "an old suspicion is answered already"


def test_news_of_a_suspect_are_passed_on_with_who_says_so() -> None:
    swim = member("a", "b", "c", "d")
    swim.handle(wire.Message(wire.GOSSIP, "a", 5, news=[wire.Verdict("suspect", "b", 5, 0, "a")]), "a:1", 0.0)
    assert state(swim, "b") == "suspect"
    [(_, answer)] = sent(swim.handle(wire.Message(wire.PING, "b", 5, 1, "me"), "b:1", 0.0), wire.ACK)
    assert wire.Verdict("suspect", "b", 5, 0, "me") in answer.news, "the suspect hears of it first"
    effects = swim.handle(wire.Message(wire.GOSSIP, "b", 5, news=[node("b", incarnation=1)]), "b:1", 0.1)
    assert [(e.member.id, e.former) for e in effects if isinstance(e, Changed)] == [("b", "suspect")]
    assert state(swim, "b") == "alive"
    swim.handle(wire.Message(wire.GOSSIP, "c", 5, news=[wire.Verdict("dead", "b", 5, 0, "c")]), "c:1", 0.2)
    assert state(swim, "b") == "alive", "that was said of an earlier incarnation"


@pytest.mark.parametrize(
    ("first", "then", "last"),
    [
        ("suspect", "dead", "dead"),
        ("dead", "suspect", "dead"),
        ("dead", "left", "left"),
        ("left", "dead", "left"),
        ("left", "suspect", "left"),
    ],
)
def test_at_one_age_a_state_goes_one_way(first: str, then: str, last: str) -> None:
    swim = member("a", "b", "c")
    for said in (first, then):
        swim.handle(wire.Message(wire.GOSSIP, "a", 5, news=[wire.Verdict(said, "b", 5, 0, "a")]), "a:1", 0.0)  # type: ignore[arg-type]
    assert state(swim, "b") == last


def test_the_order_of_news_does_not_matter() -> None:
    news: list[wire.News] = [
        node("a", incarnation=2, models=(("m", "2"),)),
        node("a", incarnation=1),
        wire.Verdict("suspect", "a", 5, 1, "b"),
        wire.Verdict("dead", "a", 5, 2, "b"),
        wire.Verdict("left", "b", 5, 0, "b"),
        node("b", draining=True, incarnation=1),
    ]
    ends = set()
    for seed in range(30):
        swim = member("a", "b", "c")
        order = random.Random(seed).sample(news, len(news))
        for item in order:
            swim.handle(wire.Message(wire.GOSSIP, "c", 5, news=[item]), "c:1", 0.0)
        ends.add(tuple((each.state, each.record) for each in swim.members.values()))
    assert len(ends) == 1


def test_a_load_report_is_taken_when_it_is_newer_and_of_this_life() -> None:
    swim = member("a")
    report = wire.Reported("a", 5, LoadReport(running=3, number=4))
    effects = swim.handle(wire.Message(wire.GOSSIP, "a", 5, news=[report]), "a:1", 1.0)
    assert [e.member.load for e in effects if isinstance(e, Loaded)] == [report.load]
    for old in (wire.Reported("a", 5, LoadReport(number=4)), wire.Reported("a", 4, LoadReport(number=9))):
        effects = swim.handle(wire.Message(wire.GOSSIP, "a", 5, news=[old]), "a:1", 1.0)
        assert not any(isinstance(effect, Loaded) for effect in effects)
    assert swim.hear_load("a", LoadReport(queue=1, number=5), 2.0)
    assert swim.hear_load("nobody", LoadReport(number=5), 2.0) == []


def test_a_changed_load_goes_to_servers_at_once_and_not_again_for_noise() -> None:
    swim = Swim(node("me", incarnation=0), SETTINGS, random.Random(1), 0.0)
    server = Record(id="s", role="server", start=1, gossip="s:1")
    swim.merge([wire.Entry("alive", server, None), wire.Entry("alive", node("a"), None)], "s", 0.0)
    swim.set_load(LoadReport(cpu=0.4), 0.2)
    assert swim.next_deadline() <= 0.2
    told = sent(swim.handle_timeout(0.2), wire.GOSSIP)
    reported = [(to, item.load) for to, message in told for item in message.news if isinstance(item, wire.Reported)]
    assert ("s:1", LoadReport(cpu=0.4, number=1)) in reported
    assert swim.set_load(LoadReport(cpu=0.41), 0.3) == []
    assert swim.roster.load == LoadReport(cpu=0.4, number=1)
    swim.set_load(LoadReport(cpu=0.9, number=40), 0.4)
    assert swim.roster.load == LoadReport(cpu=0.9, number=40), "who numbers its reports is not renumbered"


def test_a_member_that_slept_blames_nobody() -> None:
    swim = member("a", "b", "c", "d", "e")
    swim.handle(wire.Message(wire.GOSSIP, "a", 5, news=[wire.Verdict("suspect", "b", 5, 0, "a")]), "a:1", 0.0)
    _, _, question = until(swim, wire.PING)
    swim.handle_timeout(500.0)
    assert state(swim, "b") == "suspect"
    assert state(swim, question.target) == ("suspect" if question.target == "b" else "alive")
    assert swim.health == 1


def test_strangers_and_restarted_members_are_asked_for_their_state() -> None:
    swim = member("a")
    effects = swim.handle(wire.Message(wire.PING, "stranger", 1, 1, "me"), "stranger:1", 1.0)
    assert Sync("stranger:1") in effects
    effects = swim.handle(wire.Message(wire.PING, "stranger", 1, 2, "me"), "stranger:1", 1.1)
    assert not any(isinstance(effect, Sync) for effect in effects), "once an interval"
    effects = swim.handle(wire.Message(wire.PING, "a", 6, 3, "me"), "a:1", 2.5)
    assert Sync("a:1") in effects


def test_seeds_are_asked_until_one_answers() -> None:
    swim = Swim(ME, SETTINGS, random.Random(1), 0.0, ["seed:1", "me:1"])
    asked = []
    while (now_s := swim.next_deadline()) < 20.0:
        asked += [(now_s, effect.to) for effect in swim.handle_timeout(now_s) if isinstance(effect, Sync)]
    assert {to for _, to in asked} == {"seed:1"}, "its own address is none to join"
    assert asked[0][0] == 0.0
    waits = [b - a for (a, _), (b, _) in pairwise(asked)]
    assert max(waits) > 2.0
    assert max(waits) <= 7.5


def test_too_many_members_are_not_taken_in() -> None:
    swim = member("a", "b", settings=SwimSettings(members_max=2))
    swim.merge([wire.Entry("alive", node("c"), None)], "a", 0.0)
    assert set(swim.members) == {"a", "b"}
    assert swim.roster.turned_away == 1


def test_whom_another_takes_for_dead_is_a_suspect_here_who_may_contradict() -> None:
    swim = member("a", "b")
    swim.merge([wire.Entry("dead", node("a"), None), wire.Entry("dead", node("never seen"), None)], "b", 1.0)
    assert state(swim, "a") == "suspect"
    assert set(swim.members) == {"a", "b"}


def test_the_dead_are_forgotten_after_a_while() -> None:
    swim = member("a", "b", settings=SwimSettings(forget_s=60.0))
    swim.handle(wire.Message(wire.GOSSIP, "b", 5, news=[wire.Verdict("left", "a", 5, 0, "a")]), "b:1", 0.0)
    gone: list[Member] = []
    while (now_s := swim.next_deadline()) < 120.0 and not gone:
        gone = [effect.member for effect in swim.handle_timeout(now_s) if isinstance(effect, Forgotten)]
    assert [each.id for each in gone] == ["a"]
    assert "a" not in swim.members


def test_what_cannot_be_said_changes_nothing() -> None:
    swim = member("a")
    before = swim.roster.me
    with pytest.raises(ValueError, match="too long"):
        swim.set_models((("x" * 500, "1"),), 0.0)
    assert swim.roster.me is before
    assert swim.set_models((), 0.0) == []
    swim.set_models((("m", "1"),), 0.0)
    swim.set_address("h:2", 0.0)
    assert (swim.roster.me.models, swim.roster.me.address, swim.roster.me.incarnation) == ((("m", "1"),), "h:2", 2)


def test_a_doubted_member_is_asked_next() -> None:
    swim = member(*"abcdefgh")
    for _ in range(3):
        swim.doubt("g")
    swim.doubt("nobody")
    assert until(swim, wire.PING)[2].target == "g"


def test_news_are_told_a_limited_number_of_times() -> None:
    swim = member(*"abcdefgh")
    swim.handle(wire.Message(wire.GOSSIP, "a", 5, news=[node("new")]), "a:1", 0.0)
    told = 0
    while (now_s := swim.next_deadline()) < 60.0:
        for effect in swim.handle_timeout(now_s):
            if isinstance(effect, Send):
                told += node("new") in wire.read_message(effect.message).news
    assert told == 7, "2 * log2(10 + 1), rounded up"


def test_a_suspicion_shortens_with_each_voice() -> None:
    suspicion = Suspicion("a", 100.0, 10, SETTINGS)
    assert suspicion.deadline_s == pytest.approx(124.0)
    assert suspicion.confirm("a") is False
    ends = [suspicion.deadline_s if suspicion.confirm(name) else 0.0 for name in "bcde"]
    assert ends == pytest.approx([114.0, 108.15, 104.0, 0.0], abs=0.01)
    suspicion.put_off(5.0)
    assert suspicion.deadline_s == pytest.approx(109.0)


def test_where_too_few_can_confirm_nobody_is_waited_for() -> None:
    assert Suspicion("a", 0.0, 4, SETTINGS).deadline_s == pytest.approx(4.0)
    assert Suspicion("a", 0.0, 100, SETTINGS).deadline_s == pytest.approx(48.0)
