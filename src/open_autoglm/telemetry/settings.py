"""Settings of logs and explain records."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from open_autoglm.quantities import Ratio

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
