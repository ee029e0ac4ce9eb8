"""From what a member wrote to what is compared of it."""

from __future__ import annotations

from open_autoglm.cooperation.caller import Reply
from open_autoglm.cooperation.question import Question
from open_autoglm.cooperation.team_run import Reader
from open_autoglm.voting.candidate import Ask
from open_autoglm.voting.prompts import read_choice
from open_autoglm.voting.settings import TeamSettings


def make_reader(settings: TeamSettings, question: Question) -> Reader:
    """Make what reads the replies of one run; it remembers what was said, to find what means the same."""

    def read(ask: Ask, reply: Reply) -> tuple[str, tuple[str, ...]]:
        if ask.purpose == "judge":
            return read_choice(reply.text, len(ask.shown)), ()
        plain = " ".join(reply.text.casefold().split())
        return plain, () if plain else ("empty",)

    return read
