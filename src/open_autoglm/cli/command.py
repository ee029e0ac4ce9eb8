"""The commands: name, what it does in one line, and the module that does it.

A module is imported when its command is typed, so this table costs nothing.
"""

from __future__ import annotations

import importlib
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from typing import Protocol, cast

from open_autoglm.cli.terminal import Terminal


class CommandModule(Protocol):
    """What a module of `commands/` offers."""

    def configure(self, parser: ArgumentParser) -> None:
        """Add what may be typed after the command."""

    def run(self, arguments: Namespace, terminal: Terminal) -> int:
        """Do it; return an exit code."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        name: as typed.
        summary: one line for `autoglm --help`.
        module: of `open_autoglm.cli.commands`.
    """

    name: str
    summary: str
    module: str

    def load(self) -> CommandModule:
        """Import the command's module."""
        return cast(CommandModule, importlib.import_module(f"open_autoglm.cli.commands.{self.module}"))


COMMANDS = (
    Command("demo", "a server with models and a first question, all offline", "demo"),
    Command("serve", "the server: prints its address and the table of models", "serve"),
    Command("node", "an inference node: runs models for servers, over the framed protocol", "node"),
    Command("export", "models as folders that a node serves: ONNX graphs, manifests", "export"),
    Command("chat", "talk to a model in the terminal", "chat"),
    Command("models", "the models of a running server and the state of their endpoints", "models"),
    Command("rollout", "versions of models: try one on a share of the requests, promote it, take it back", "rollout"),
    Command("status", "whether a running server is well, and what it runs", "status"),
    Command("nodes", "the members of a cluster: notes on them, and nodes that get no new requests", "nodes"),
    Command("keys", "the API keys of a running server; `keys new` makes one", "keys"),
    Command("config", "check, compare, show, apply and roll back configurations", "config"),
    Command("runs", "task graphs: begin one, look at it, give the word that it waits for", "runs"),
    Command("requests", "the newest requests of a running server", "requests"),
    Command("trace", "where one request's milliseconds went, and why", "trace"),
    Command("tools", "what tasks may call: list it, call it, accept a tool that has changed", "tools"),
    Command("context", "the running server as a server of the context protocol, for desktop clients", "context"),
    Command("feedback", "say of a virtual model's answer whether it was right", "feedback"),
    Command("audit", "the records of virtual models: check them, list them, show one", "audit"),
    Command("replay", "decide recorded runs of virtual models again, and compare", "replay"),
    Command("doctor", "check this machine, the configuration and every endpoint", "doctor"),
    Command("bench", "load a server step by step and find its knee", "bench"),
    Command("evaluate", "how often models and teams of models are right, by tasks with known answers", "evaluate"),
    Command("drill", "put a gateway through the fault suite and print its scorecard", "drill"),
)

PLANNED = {
    "tasks": "queues of tasks; task graphs, which outlive a crash, are under `autoglm runs`",
    "session": "sessions",
}
"""Commands of parts that are not built yet: name -> the part."""


def find(name: str) -> Command | None:
    """Return the command of this name."""
    return next((command for command in COMMANDS if command.name == name), None)
