"""Judges what a gateway made of a fault, by what its client saw and by what reached the upstreams. All alike.

| grade | means |
|---|---|
| rescued | the client got what it should: the whole right answer, or the refusal that only it can mend |
| told | no answer, but a clear error in time; nothing that was shown was wrong |
| wrong | a part shown as a whole, text doubled or lost, another's error, silence, too many tries, … |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from open_autoglm.testing.cases import Case
from open_autoglm.testing.hearing import Heard
from open_autoglm.testing.reply import Asked
from open_autoglm.testing.speech import TOKENS, text_of

FALLBACK: Final = "fallback"
"""Name of the upstream that is no member of the group."""
FALLBACK_MODEL: Final = "drill-large"
FALLBACK_PROMPT_TOKENS: Final = 1010
"""What it counts for a prompt; the others count 10."""
CANCEL_S: Final = 2.0
"""After the end of a client's request, the time in which the work for it must have ended upstream."""

Grade = Literal["rescued", "told", "wrong"]
ORDER: Final[dict[Grade, int]] = {"rescued": 0, "told": 1, "wrong": 2}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A grade and its reason, which is empty for `rescued`."""

    grade: Grade
    why: str = ""


RESCUED: Final = Verdict("rescued")


def judge(case: Case, question: str, heard: Heard, tries: Sequence[Asked], now_s: float) -> Verdict:
    """Judge one request.

    Args:
        case: the fault.
        question: that the upstreams answered.
        heard: what the client saw.
        tries: the requests that reached upstreams for it, oldest first.
        now_s: when the upstreams are looked at; `CANCEL_S` after the client's end, or later.
    """
    if case.leaves_s:
        why = _not_cancelled(heard, tries, now_s)
        return Verdict("wrong", why) if why else RESCUED
    told = judge_heard(case, question, heard)
    if told.grade == "wrong":
        return told
    why = _late(case, heard) or _too_much(case, tries) or _not_cancelled(heard, tries, now_s)
    if not why and told.grade == "rescued" and case.fallback:
        why = _hidden_fallback(heard)
    return Verdict("wrong", why) if why else told


def judge_heard(case: Case, question: str, heard: Heard) -> Verdict:
    """Judge what the client saw, whatever it took."""
    wanted = text_of(question)
    if case.never and case.never in heard.text + heard.error:
        return Verdict("wrong", f"the client sees another's error: {case.never!r}")
    if heard.end == "late":
        return Verdict("wrong", f"neither answer nor error after {heard.seconds:.0f} s")
    if heard.end == "long":
        return Verdict("wrong", "more than 64 MiB are passed on")
    if heard.malformed:
        return Verdict("wrong", "what is no JSON is passed on as an answer")
    if not wanted.startswith(heard.text):
        return Verdict("wrong", _difference(wanted, heard.text))
    if heard.whole:
        return _judge_whole(case, wanted, heard)
    if case.refusal:
        if heard.text or not heard.error:
            return Verdict("wrong", "the refusal is not passed on")
        if case.refusal in heard.error and 400 <= heard.status < 500:
            return RESCUED
        return Verdict("wrong", f"the reason of the refusal is lost: {heard.status} {heard.error[:80]!r}")
    if heard.error:
        return Verdict("told", f"{heard.status} {heard.error[:80]}" if heard.status != 200 else heard.error[:80])
    if heard.end == "whole":
        return Verdict("wrong", "an empty answer is shown as whole")
    return Verdict("told", "the connection breaks off without a word")


def _judge_whole(case: Case, wanted: str, heard: Heard) -> Verdict:
    """Judge what a client takes for a whole answer; its text is a beginning of the right one."""
    if case.refusal:
        return Verdict("wrong", "a refusal is shown as an answer")
    if heard.text != wanted:
        return Verdict("wrong", f"{len(heard.text)} of {len(wanted)} characters are shown as a whole answer")
    if heard.finish != "stop":
        return Verdict("wrong", f"the whole text, but its finish reason is {heard.finish!r}")
    if not heard.usage.get("completion_tokens"):
        return Verdict("wrong", "the whole text, but no usage")
    return RESCUED


def _late(case: Case, heard: Heard) -> str:
    if heard.seconds <= case.within_s:
        return ""
    return f"only after {heard.seconds:.1f} s; {case.within_s:g} s are the bound"


def _too_much(case: Case, tries: Sequence[Asked]) -> str:
    """Look at the tries within the group."""
    own = [asked for asked in tries if asked.upstream != FALLBACK]
    if len(own) > case.tries_max:
        return f"{len(own)} tries at the group; {case.tries_max} are the bound"
    if case.reach == "group" and case.fault.startswith("rate-limited") and own:
        soon = sum(asked.arrived_s - own[0].arrived_s <= 3.0 for asked in own)
        if soon > case.tries_max:
            return f"{soon} tries within 3 s"
    routes = [asked.upstream for asked in own]
    if not case.same_route and len(set(routes)) < len(routes):
        return "an endpoint is tried again that cannot help"
    if case.switch_s and (len(tries) < 2 or tries[1].arrived_s - tries[0].arrived_s > case.switch_s):
        return f"no other endpoint is tried within {case.switch_s:g} s"
    return ""


def _not_cancelled(heard: Heard, tries: Sequence[Asked], now_s: float) -> str:
    for asked in tries:
        ended_s = asked.left_s or asked.done_s or now_s
        if ended_s > heard.ended_s + CANCEL_S:
            return f"work for it goes on upstream for {ended_s - heard.ended_s:.1f} s after its end"
    return ""


def _hidden_fallback(heard: Heard) -> str:
    if FALLBACK_MODEL not in heard.model and not any(FALLBACK_MODEL in value for value in heard.headers.values()):
        return f"nothing says that {FALLBACK_MODEL!r} answered; the model is {heard.model!r}"
    counted = heard.usage.get("prompt_tokens"), heard.usage.get("completion_tokens")
    if counted != (FALLBACK_PROMPT_TOKENS, TOKENS):
        return f"the usage is not the fallback's: {counted}"
    return ""


def _difference(wanted: str, text: str) -> str:
    place = next((at for at, (a, b) in enumerate(zip(wanted, text, strict=False)) if a != b), len(wanted))
    return f"another text from character {place} on: {text[place : place + 24]!r}, not {wanted[place : place + 24]!r}"
