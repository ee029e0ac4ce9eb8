"""The audit of a running server: opened by its configuration, asked by the admin listener, told what was right.

A label says of one run whether its decision was right, or which answer is. Invariants: a run has one label at most,
and none once it is older than `audit.label_age`; what a label teaches goes to the virtual model that the run was of, as
far as it is served here; the label is in the chain whether anything was learned of it or not.
"""

from __future__ import annotations

import asyncio
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from msgspec import Struct

from open_autoglm import clock
from open_autoglm.backends.caller import Reply
from open_autoglm.config.schema import ServerConfig
from open_autoglm.cooperation.question import Question
from open_autoglm.cooperation.reading import make_reader
from open_autoglm.errors import RequestError, ServerError
from open_autoglm.telemetry.audit import AuditTrail
from open_autoglm.telemetry.audit_file import AuditFile
from open_autoglm.telemetry.audit_reader import find_run
from open_autoglm.telemetry.run_record import Label, RunRecord, record_of
from open_autoglm.telemetry.run_view import view_of
from open_autoglm.telemetry.settings import AuditSettings
from open_autoglm.voting.candidate import Ask, Decision

if TYPE_CHECKING:
    from open_autoglm.server.teams import Teams

JSONObject = dict[str, Any]
By = Literal["human", "verifier"]

_READ_S: Final = 30.0
"""For looking a run up in the files, whose size is bounded by `audit.keep` and `audit.file_bytes`."""
_NOBODY: Final = "\0"
"""An answer that nobody can have given."""


class Said(Struct, frozen=True):
    """What somebody says of a run.

    Attributes:
        right: whether its decision was right; None where only `answer` says it.
        answer: the right one, in any form that members may write it in; None where it is not known.
        by: who says so.
    """

    right: bool | None = None
    answer: str | None = None
    by: By = "human"


class Lesson(Struct, frozen=True):
    """What a virtual model is to learn from a label.

    Attributes:
        model: its name.
        decision: the run's; where it only is known that it was wrong, with the votes for it alone.
        answer: the right one, as the votes have it.
    """

    model: str
    decision: Decision
    answer: str


def audit_path(settings: AuditSettings, data_dir: str) -> str:
    """The file of the newest records."""
    return settings.file if settings.file is not None else os.path.join(data_dir, "audit", "audit.jsonl")


def found_run(run: str, record: RunRecord | None) -> RunRecord:
    """The record that was looked for.

    Raises:
        RequestError: `not_found`, there is none.
    """
    if record is None:
        message = f"no run {run!r} is known here: it was no virtual model's, or its records went with `audit.keep`"
        raise RequestError("not_found", message)
    return record


def label_told(run: str, label: Label, *, learned: bool) -> JSONObject:
    """What is answered to whoever said what was right."""
    return {"run": run, "by": label.by, "right": label.right, "learned": learned}


class AuditDesk:
    """See the module.

    Args:
        config: the server's, at its start.
        teams: the virtual models, which tell of their runs from now on.

    Attributes:
        trail: takes the runs down.
    """

    def __init__(self, config: ServerConfig, teams: Teams) -> None:
        settings = config.audit
        key = b"" if settings.key is None else settings.key.reveal().encode()
        self._settings = settings
        self._teams = teams
        self._path = Path(audit_path(settings, config.server.data_dir))
        file = AuditFile(
            str(self._path),
            key,
            bytes_max=settings.file_bytes,
            keep=settings.keep,
            durable=settings.durable,
        )
        self.trail = AuditTrail(
            file if settings.enabled else None,
            keep=config.explain.keep,
            key=key,
        )
        self.renew(config)
        teams.around = msgspec.structs.replace(teams.around, trails=self.trail)

    def renew(self, config: ServerConfig) -> None:
        """Take over from another configuration what can be changed while runs go on: texts, required, label_age."""
        settings = config.audit
        self.trail.texts = config.logging.prompts if settings.texts is None else settings.texts
        self.trail.required = settings.required
        self._label_age_s = settings.label_age_s

    def view(self, request_id: str) -> JSONObject | None:
        """A run of which everything is still in memory, as `run_view` shows it."""
        record = self.trail.runs.get(request_id)
        view: JSONObject | None = None if record is None else msgspec.to_builtins(view_of(record))
        return view

    def status(self) -> JSONObject:
        """How the writing goes: number and hash of the last record, which may be noted elsewhere, and what was lost."""
        sequence, head = self.trail.head
        return {
            "enabled": self._settings.enabled,
            "sequence": sequence,
            "head": head,
            "lost": self.trail.lost,
            "trouble": self.trail.trouble,
        }

    def records(self) -> dict[str, float]:
        """Records by what became of them, for metrics."""
        return {"written": self.trail.written, "lost": self.trail.lost}

    async def find(self, run: str) -> RunRecord | None:
        """A run from memory, else from the files, as far back as they go.

        Raises:
            ServerError: the files cannot be read.
        """
        record = self.trail.runs.get(run)
        if record is not None or not self._settings.enabled:
            return record
        try:
            async with asyncio.timeout(_READ_S):
                return record_of(await asyncio.to_thread(find_run, self._path, run))
        except (OSError, TimeoutError, ValueError) as error:
            raise ServerError("internal_error", f"the audit cannot be read: {type(error).__name__}") from error

    async def recorded(self, run: str) -> JSONObject:
        """A run as `run_view` shows it, wherever it is.

        Raises:
            RequestError: `not_found`.
            ServerError: the files cannot be read.
        """
        view: JSONObject = msgspec.to_builtins(view_of(found_run(run, await self.find(run))))
        return view

    def label(self, record: RunRecord, said: Said) -> tuple[Label, Lesson]:
        """Write down what was said of a run, and return what is to be learned of it.

        Raises:
            RequestError: `invalid_request`, it contradicts itself; `conflict`, the run has a label, is too old, or
                decided nothing.
        """
        record = self.trail.runs.get(record.run) or record  # somebody else may have said something meanwhile
        decision = self._decided(record)
        if said.right is None and said.answer is None:
            raise RequestError("invalid_request", "say whether it was right, or which answer is", param="right")
        answer = "" if said.answer is None else self._written(record, said.answer)
        if said.right is not None and said.answer is not None and said.right != (answer == decision.answer):
            message = "`right` and `answer` contradict each other; say one of both"
            raise RequestError("invalid_request", message, param="answer")
        right = answer == decision.answer if said.right is None else said.right
        label = Label(said.by, right, answer, clock.iso_utc(clock.wall()))
        self.trail.label(record, label)
        self.trail.runs.put(record)
        model = str(record.header.get("model", ""))
        if right:
            return label, Lesson(model, decision, decision.answer)
        if said.answer is not None:
            return label, Lesson(model, decision, answer)
        against = tuple(vote for vote in decision.votes if vote.answer == decision.answer)
        return label, Lesson(model, msgspec.structs.replace(decision, votes=against), _NOBODY)

    def learn(self, lesson: Lesson) -> bool:
        """Have a virtual model learn; whether it is served here."""
        book = self._teams.library.find(lesson.model)
        if book is not None:
            book.label(lesson.decision, lesson.answer)
        return book is not None

    async def close(self) -> None:
        """Write what waits."""
        await asyncio.to_thread(self.trail.close)

    def _decided(self, record: RunRecord) -> Decision:
        if record.labels:
            by = record.labels[0].by
            raise RequestError("conflict", f"the run {record.run!r} has its label already, by {by}; one counts")
        age_s = clock.wall() - datetime.fromisoformat(record.time).timestamp()
        if age_s > self._label_age_s:
            most = f"{self._label_age_s:g} s"
            raise RequestError("conflict", f"the run {record.run!r} is {age_s:.0f} s old; a label counts for {most}")
        if not record.decision or not record.decision.get("answer"):
            raise RequestError("conflict", f"the run {record.run!r} decided nothing that could be right or wrong")
        try:
            return msgspec.convert(record.decision, Decision)
        except msgspec.ValidationError as error:
            raise RequestError("conflict", f"the decision of the run {record.run!r} cannot be read") from error

    def _written(self, record: RunRecord, answer: str) -> str:
        """An answer as somebody says it, made what the votes of that run have in its place."""
        book = self._teams.library.find(str(record.header.get("model", "")))
        if book is not None:
            read, _ = make_reader(book.settings, Question(()))(Ask(0, ""), Reply(answer))
            answer = read or answer
        return self.trail.privacy_of(record).answer(answer)
