"""Settings of logs and explain records."""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from open_autoglm.quantities import Bytes, Ratio, Seconds
from open_autoglm.secret import Secret

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class LoggingSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What is written down of the server's work.

    Attributes:
        level: least severe level that is written.
        format: `json`, one object a line, or `text` for people.
        file: path; standard error when left out.
        prompts: write prompts and answers too. Off, since they are other people's words.
        requests: share of the successful requests that get a log line; failures always do.
    """

    level: Level = "INFO"
    format: Literal["json", "text"] = "json"
    file: str | None = None
    prompts: bool = False
    requests: Ratio = 1.0


class ExplainSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The records that `autoglm trace` reads.

    Attributes:
        keep: requests kept in memory, the newest.
        relayed: share of the requests of which a record is kept and a log line is written, among those that nodes
            answered over the framed protocol and that went well at once; all others are kept.
    """

    keep: Annotated[int, Meta(ge=0, le=1_000_000)] = 4096
    relayed: Ratio = 0.01


class AuditSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The records of what virtual models did, in a chain that shows whatever was changed.

    Attributes:
        enabled: whether they are written to a file. The newest runs are in memory in any case (`explain.keep`).
        file: path; `audit/audit.jsonl` in `server.data_dir` when left out.
        key: with it nobody who can write the file can make records: the value, `${ENV}` or `file:PATH`, at least 16
            characters. Another key begins another chain.
        keep: older files that stay, beside the newest one.
        file_bytes: from this size on a new file is begun.
        durable: have every batch of records on the disk before they count as written.
        required: a run that cannot be recorded ends with the error `storage_full`, instead of with its answer.
        texts: keep prompts and answers, not only what is needed to compare them; as `logging.prompts` when left out.
        label_age_s: for so long after a run it may be said which answer was right.
    """

    enabled: bool = True
    file: str | None = None
    key: Secret | None = None
    keep: Annotated[int, Meta(ge=1, le=10_000)] = 8
    file_bytes: Bytes = 64 * 2**20
    durable: bool = True
    required: bool = False
    texts: bool | None = None
    label_age_s: Seconds = field(default=2_592_000.0, name="label_age")
