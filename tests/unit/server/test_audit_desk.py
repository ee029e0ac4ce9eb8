"""Labels of runs: who may say what, once, and what is learned from it."""

import asyncio
import random
from pathlib import Path

import pytest

from open_autoglm.config.schema import ServerConfig, ServerSettings
from open_autoglm.cooperation.knowledge import Library
from open_autoglm.errors import AutoGLMError, RequestError
from open_autoglm.server.audit_desk import AuditDesk, Said, audit_path, found_run
from open_autoglm.server.teams import Teams
from open_autoglm.telemetry.run_record import RunRecord
from open_autoglm.telemetry.settings import AuditSettings, ExplainSettings
from open_autoglm.voting.candidate import Candidate, Decision, Vote
from open_autoglm.voting.knowledge import Member
from open_autoglm.voting.settings import TeamSettings

VOTES = (Vote(0, "a", "41", 0.7), Vote(1, "b", "42", 0.7), Vote(2, "c", "42", 0.7))
DECISION = Decision("42", 1, 0.8, 0.67, VOTES, "all_in")


class Stage:
    """A desk whose one virtual model is `team`, of `a`, `b` and `c`."""

    def __init__(self, folder: Path, **audit: object) -> None:
        config = ServerConfig(
            server=ServerSettings(data_dir=str(folder)),
            audit=AuditSettings(**audit),  # type: ignore[arg-type]
            explain=ExplainSettings(keep=4),
        )
        self.teams = Teams(Library(None), random.Random(1), asyncio.get_running_loop())
        self.teams.library.book("team", tuple(Member(name) for name in "abc"), TeamSettings())
        self.desk = AuditDesk(config, self.teams)

    def run(self, model: str = "team", decision: Decision | None = DECISION, name: str = "req-1") -> RunRecord:
        told = self.desk.trail.begin(name, {"model": model})
        for vote in VOTES:
            told.event("candidate", Candidate(vote.ask, vote.member, vote.answer))
        told.end(decision)
        return told.record

    def learned(self) -> dict[str, tuple[float, float]]:
        """Hits and misses of each member."""
        book = self.teams.library.find("team")
        assert book is not None
        return {skill.member: (skill.right, skill.wrong) for skill in book.knowledge().skills if skill.task_class == ""}

    def say(self, record: RunRecord, said: Said) -> bool:
        label, lesson = self.desk.label(record, said)
        assert label == record.labels[-1]
        return self.desk.learn(lesson)


async def test_the_virtual_models_tell_the_trail(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    assert stage.teams.around.trails is stage.desk.trail
    assert audit_path(AuditSettings(), "data") == "data/audit/audit.jsonl"
    assert audit_path(AuditSettings(file="/x"), "data") == "/x"


@pytest.mark.parametrize(
    ("said", "hits", "missed"),
    [
        (Said(right=True), "bc", "a"),
        (Said(answer="The answer is 42."), "bc", "a"),
        (Said(answer="41"), "a", "bc"),
        (Said(answer="7"), "", "abc"),
        (Said(right=False), "", "bc"),
        (Said(right=False, answer="41"), "a", "bc"),
    ],
)
@pytest.mark.parametrize("texts", [False, True])
async def test_what_is_learned(tmp_path: Path, said: Said, hits: str, missed: str, texts: bool) -> None:
    stage = Stage(tmp_path, texts=texts)
    assert stage.say(stage.run(), said)
    learned = stage.learned()
    assert "".join(sorted(name for name, (right, _) in learned.items() if right > 2.5)) == hits
    assert "".join(sorted(name for name, (_, wrong) in learned.items() if wrong > 1.5)) == missed
    await stage.desk.close()


async def refused(stage: Stage, record: RunRecord, said: Said) -> AutoGLMError:
    with pytest.raises(RequestError) as raised:
        stage.desk.label(record, said)
    await stage.desk.close()
    return raised.value


async def test_a_second_label_is_refused(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.say(stage.run(), Said(right=True, by="verifier"))
    read = await stage.desk.find("req-1")
    assert read is not None
    error = await refused(stage, read, Said(right=False))
    assert (error.code, "by verifier" in error.message) == ("conflict", True)


async def test_a_copy_that_was_read_before_somebody_else_s_label_makes_no_second_one(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    record = stage.run()
    copy = RunRecord(record.run, record.time, record.header, record.events, record.end)
    stage.say(record, Said(right=True))
    assert (await refused(stage, copy, Said(right=True))).code == "conflict"


async def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    record = stage.run()
    assert (await refused(stage, record, Said())).param == "right"
    assert (await refused(stage, record, Said(right=True, answer="41"))).param == "answer"
    assert (await refused(stage, record, Said(right=False, answer="42"))).param == "answer"
    nothing = stage.run(name="req-2", decision=None)
    assert "decided nothing" in (await refused(stage, nothing, Said(right=True))).message
    assert not record.labels
    assert not stage.learned()


async def test_a_run_is_too_old_at_some_time(tmp_path: Path) -> None:
    stage = Stage(tmp_path, label_age_s=60.0)
    record = stage.run()
    record.time = "2020-01-01T00:00:00.000Z"
    error = await refused(stage, record, Said(right=True))
    assert (error.code, "a label counts for 60 s" in error.message) == ("conflict", True)


async def test_a_model_that_is_served_no_more_learns_nothing_but_the_label_is_kept(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    record = stage.run(model="gone")
    assert not stage.say(record, Said(right=True))
    assert [label.right for label in record.labels] == [True]
    await stage.desk.close()


async def test_a_run_that_left_the_memory_is_found_in_the_file(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    for number in range(8):
        stage.run(name=f"req-{number}")
    await stage.desk.close()
    assert stage.desk.view("req-0") is None
    record = await stage.desk.find("req-0")
    assert record is not None
    assert stage.say(record, Said(answer="41"))
    assert stage.learned()["a"][0] > 2.5
    await stage.desk.close()
    with pytest.raises(RequestError, match="no run 'req-9' is known"):
        found_run("req-9", await stage.desk.find("req-9"))


async def test_without_files_only_the_memory_is_looked_into(tmp_path: Path) -> None:
    stage = Stage(tmp_path, enabled=False)
    stage.run()
    assert await stage.desk.find("req-1") is not None
    assert await stage.desk.find("req-2") is None
    assert stage.desk.status()["enabled"] is False
    await stage.desk.close()
    assert nothing_in(tmp_path)


def nothing_in(folder: Path) -> bool:
    return not list(folder.iterdir())
