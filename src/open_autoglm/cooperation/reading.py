"""From what a member wrote to what is compared of it."""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from open_autoglm.cooperation.caller import Reply
from open_autoglm.cooperation.question import Question
from open_autoglm.cooperation.team_run import Reader
from open_autoglm.cooperation.tool_member import ABSTAINED
from open_autoglm.tools.argument_check import problems
from open_autoglm.voting.calibration import chance
from open_autoglm.voting.candidate import Ask
from open_autoglm.voting.canonical import Fits, read_answer
from open_autoglm.voting.knowledge import Knowledge
from open_autoglm.voting.meaning import Meanings
from open_autoglm.voting.prompts import read_choice
from open_autoglm.voting.settings import TeamSettings

_FREE_CHARS_MIN: Final = 41
"""A text of so many characters is a text, whose wording says little; a shorter one is compared letter by letter."""


def make_reader(settings: TeamSettings, question: Question) -> Reader:
    """Make what reads the replies of one run; it remembers what was said, to find what means the same."""
    settings = _with_schema(settings, question)
    meanings = Meanings(question.text)
    free = settings.answer_form in ("auto", "text") and not settings.choices and settings.answer_schema is None

    def read(ask: Ask, reply: Reply) -> tuple[str, tuple[str, ...]]:
        if ask.purpose == "judge":
            choice = read_choice(reply.text, len(ask.shown))
            return choice, () if choice else ("invalid",)
        if ask.purpose == "compute" and reply.finish_reason == ABSTAINED:
            return "", (ABSTAINED,)
        reading = read_answer(reply.text, settings, reply.finish_reason, _fits(settings))
        answer = reading.answer
        if free and len(answer) >= _FREE_CHARS_MIN and answer[0] not in "{[":
            answer = meanings.answer(answer)
        return answer, reading.flags

    return read


def calibrated(knowledge: Knowledge, member: str, confidence: float | None) -> float | None:
    """The chance that a member's answer is right, by its own figures; these as they are while no curve is known.

    Args:
        knowledge: of one class of tasks.
        member: who says so.
        confidence: mean probability of its tokens; None where it is not told.
    """
    if confidence is None:
        return None
    curve = next((curve for curve in knowledge.calibration if curve.member == member), None)
    return confidence if curve is None else chance(curve, confidence)


def _with_schema(settings: TeamSettings, question: Question) -> TeamSettings:
    """A client that wants JSON gets JSON, whatever its virtual model usually answers."""
    wanted: Any = question.parameters.get("response_format")
    if settings.answer_form != "auto" or settings.choices or not isinstance(wanted, dict):
        return settings
    if wanted.get("type") == "json_object":
        return replace(settings, answer_form="json")
    schema = wanted.get("json_schema")
    if wanted.get("type") == "json_schema" and isinstance(schema, dict) and isinstance(schema.get("schema"), dict):
        return replace(settings, answer_form="json", answer_schema=schema["schema"])
    return settings


def _fits(settings: TeamSettings) -> Fits | None:
    schema = settings.answer_schema
    return None if schema is None else lambda value: not problems(schema, value)
