"""What is known of the members at one moment: plain values, written down with a run so that it can be replayed."""

from __future__ import annotations

from math import sqrt
from typing import Annotated, Literal

from msgspec import Meta, Struct


class Member(Struct, frozen=True, omit_defaults=True):
    """A model of a team, or a tool.

    Attributes:
        name: of the model, or of the tool with `tool:` before it.
        domain: what fails or errs as one, such as its provider or base model; its name where that is empty.
        price: money for a typical answer, to order members by; only comparisons matter.
        kind: a tool has no answer of its own: it is asked about one that another member gave.
    """

    name: str
    domain: str = ""
    price: float = 0.0
    kind: Literal["model", "tool"] = "model"

    @property
    def failure_domain(self) -> str:
        return self.domain or self.name


class Skill(Struct, frozen=True, omit_defaults=True):
    """A member's record for one class of tasks: its accuracy is Beta(`right`, `wrong`), the prior within.

    Attributes:
        task_class: None for all classes together.
        count, mean: labels since the last sudden change, and the share of hits among them.
        below, above: how far the hits since then have run below and above that mean, as sums that never fall below 0.
    """

    member: str
    task_class: str | None
    right: Annotated[float, Meta(gt=0)]
    wrong: Annotated[float, Meta(gt=0)]
    count: float = 0.0
    mean: float = 0.0
    below: float = 0.0
    above: float = 0.0


class JointErrors(Struct, frozen=True):
    """How often two members were wrong, alone and together, of `labels` items that both answered; all discounted."""

    first: str
    second: str
    labels: float
    first_wrong: float
    second_wrong: float
    both_wrong: float

    @property
    def correlation(self) -> float:
        """Of the two's errors, -1 to 1 (phi coefficient); 0 where one of them was always right, or always wrong."""
        first, second = self.first_wrong, self.second_wrong
        spread = first * (self.labels - first) * second * (self.labels - second)
        return (self.labels * self.both_wrong - first * second) / sqrt(spread) if spread > 0 else 0.0


class Losses(Struct, frozen=True):
    """Labelled decisions of one class, and how many of them the weights and a plain majority had wrong; discounted."""

    task_class: str
    labels: float
    weighted: float
    majority: float


class Curve(Struct, frozen=True):
    """A member's calibration: said confidence -> chance of being right, straight between the points.

    Attributes:
        said: 0 to 1, rising.
        right: 0 to 1, never falling, one for each of `said`.
    """

    member: str
    task_class: str
    said: tuple[float, ...]
    right: tuple[float, ...]


class Knowledge(Struct, frozen=True, omit_defaults=True):
    """All of it; empty where nothing has been learned yet."""

    skills: tuple[Skill, ...] = ()
    joint_errors: tuple[JointErrors, ...] = ()
    losses: tuple[Losses, ...] = ()
    calibration: tuple[Curve, ...] = ()

    def of(self, task_class: str) -> Knowledge:
        """Return what matters for one class of tasks: what is written down with a run of it."""
        return Knowledge(
            tuple(skill for skill in self.skills if skill.task_class in (None, task_class)),
            self.joint_errors,
            tuple(losses for losses in self.losses if losses.task_class == task_class),
            tuple(curve for curve in self.calibration if curve.task_class == task_class),
        )
