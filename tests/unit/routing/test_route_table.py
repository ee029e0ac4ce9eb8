"""From names to routes."""

import random

import pytest
from tests.unit.routing.scripted_gate import ScriptedGate

from open_autoglm.routing.balancers import RoundRobin
from open_autoglm.routing.endpoint import Endpoint
from open_autoglm.routing.group import Group
from open_autoglm.routing.route_table import RouteTable


def group(name: str) -> Group:
    return Group(name, [Endpoint(name, ScriptedGate())], RoundRobin(random.Random(1)))


def test_a_name_has_its_group_and_its_fallbacks_in_order() -> None:
    chat, small, large = group("chat"), group("small"), group("large")
    table = RouteTable([chat, small, large], {"chat": ["large", "small"]})
    route = table.resolve("chat")
    assert route is not None
    assert (route.group, route.fallbacks) == (chat, (large, small))
    route = table.resolve("small")
    assert route is not None
    assert (route.group, route.fallbacks) == (small, ())
    assert table.names() == ("chat", "small", "large")
    assert table.groups == (chat, small, large)


def test_an_unknown_name_has_no_route() -> None:
    assert RouteTable([group("chat")], {}).resolve("Chat") is None
    assert RouteTable([group("chat")], {}).resolve("*") is None


def test_the_wildcard_takes_every_other_name() -> None:
    chat, other = group("chat"), group("*")
    table = RouteTable([chat, other], {"*": ["chat"], "special": ["chat"]})
    known, unknown, special = table.resolve("chat"), table.resolve("anything"), table.resolve("special")
    assert known is not None
    assert unknown is not None
    assert special is not None
    assert known.group is chat
    assert (unknown.group, unknown.fallbacks) == (other, (chat,))
    assert (special.group, special.fallbacks) == (other, (chat,))
    assert table.names() == ("chat",)


@pytest.mark.parametrize("fallbacks", [{"chat": ["gone"]}, {"gone": ["chat"]}, {"chat": ["chat"]}])
def test_a_fallback_that_leads_nowhere_is_refused(fallbacks: dict[str, list[str]]) -> None:
    with pytest.raises(ValueError, match="cannot fall back"):
        RouteTable([group("chat")], fallbacks)


def test_two_groups_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two groups of one name"):
        RouteTable([group("chat"), group("chat")], {})
