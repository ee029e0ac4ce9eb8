"""From a model name to its group and fallbacks. Immutable: a reload builds a new table and swaps it whole."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from open_autoglm.routing.group import Group

WILDCARD = "*"
"""The group of this name takes every name that has no group of its own; the name is sent on as it is."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where requests for a name go.

    Attributes:
        group: tried first.
        fallbacks: tried after it, in order.
    """

    group: Group
    fallbacks: tuple[Group, ...]


class RouteTable:
    """All routes.

    Args:
        groups: in the order of the configuration, names all different.
        fallbacks: name to the names tried after it. A name without a group of its own may have fallbacks when there
            is a wildcard group.

    Raises:
        ValueError: two groups of one name, or a fallback from or to a name without a group, or to itself.
    """

    __slots__ = ("_names", "_routes", "_wildcard", "groups")

    def __init__(self, groups: Iterable[Group], fallbacks: Mapping[str, Sequence[str]]) -> None:
        self.groups = tuple(groups)
        by_name = {group.name: group for group in self.groups}
        if len(by_name) != len(self.groups):
            raise ValueError(f"two groups of one name among {[group.name for group in self.groups]!r}; join them")
        routes: dict[str, Route] = {}
        for name in dict.fromkeys([*by_name, *fallbacks]):
            targets = fallbacks.get(name, ())
            group = by_name.get(name) or by_name.get(WILDCARD)
            unknown = [target for target in targets if target not in by_name or target == name]
            if group is None or unknown:
                raise ValueError(f"model {name!r} cannot fall back to {targets!r}: name models that exist, not itself")
            routes[name] = Route(group, tuple(by_name[target] for target in targets))
        self._routes = routes
        self._wildcard = routes.get(WILDCARD)
        self._names = tuple(name for name in by_name if name != WILDCARD)

    def resolve(self, model: str) -> Route | None:
        """The route of a name as the client sent it, or None when there is none."""
        return self._routes.get(model, self._wildcard)

    def names(self) -> tuple[str, ...]:
        """The names that have a group of their own, in the order of the configuration; not the wildcard."""
        return self._names
