"""`autoglm chat`: talk to a model in the terminal, one question per line when standard input is a pipe."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator

from open_autoglm.cli.arguments import count, wait_s
from open_autoglm.cli.conversation import Conversation, model_names
from open_autoglm.cli.data import add_data_options, find_data
from open_autoglm.cli.failure import DONE, FAILED, CommandFailed
from open_autoglm.cli.http_call import Target
from open_autoglm.cli.terminal import Terminal

PROMPT = "> "
_HELP = "/model NAME asks another model, /model lists them, /reset forgets the conversation, /quit ends"


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    parser.add_argument("question", nargs="*", help="ask this one question and end")
    parser.add_argument("--model", metavar="NAME", help="who is asked; default: the first that the server lists")
    parser.add_argument("--system", metavar="TEXT", help="what the model is told before the conversation")
    parser.add_argument(
        "--temperature", metavar="NUMBER", type=float, help="0 for the likeliest answer; default: the server's"
    )
    parser.add_argument("--max-tokens", metavar="COUNT", type=count, help="longest answer; default: the server's")
    parser.add_argument(
        "--no-reasoning", action="store_true", help="do not show what the model thinks before it answers"
    )
    parser.add_argument("--no-history", action="store_true", help="ask each question on its own")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=wait_s, default=120.0, help="longest silence, default %(default)g"
    )
    add_data_options(parser)


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Talk until the questions end."""
    target = find_data(arguments, terminal)
    conversation = Conversation(
        target,
        arguments.model or _first_model(target),
        _settings(arguments),
        arguments.timeout,
        not arguments.no_history,
    )
    if arguments.system:
        conversation.messages.append({"role": "system", "content": arguments.system})
    if arguments.question:
        return _ask(conversation, " ".join(arguments.question), terminal, arguments)
    if terminal.interactive:
        return _talk(conversation, terminal, arguments)
    return _answer_lines(conversation, terminal, arguments)


def _settings(arguments: Namespace) -> dict[str, object]:
    given = {"temperature": arguments.temperature, "max_tokens": arguments.max_tokens}
    return {name: value for name, value in given.items() if value is not None}


def _first_model(target: Target) -> str:
    names = model_names(target)
    if not names:
        raise CommandFailed("the server lists no model that this key may use; name one with --model")
    return names[0]


def _answer_lines(conversation: Conversation, terminal: Terminal, arguments: Namespace) -> int:
    """Answer each line of a pipe; the exit code says whether all of them were answered."""
    code = DONE
    for line in terminal.inp:
        question = line.strip()
        if not question or _obey(question, conversation, terminal):
            continue
        if question == "/quit":
            break
        code = max(code, _ask(conversation, question, terminal, arguments))
    return code


def _talk(conversation: Conversation, terminal: Terminal, arguments: Namespace) -> int:
    """Talk with a person: Ctrl-C stops an answer, Ctrl-D or /quit ends."""
    terminal.line(f"{terminal.styled(conversation.model, 'bold')} at {conversation.target.address}. {_HELP}.")
    for line in _typed():
        question = line.strip()
        if question == "/quit":
            break
        if not question or _obey(question, conversation, terminal):
            continue
        if question.startswith("/"):
            terminal.note(f"no command {question.split()[0]!r}: {_HELP}")
            continue
        try:
            _ask(conversation, question, terminal, arguments)
        except KeyboardInterrupt:
            terminal.line(terminal.styled(" (stopped)", "dim"))
    return DONE


def _typed() -> Iterator[str]:
    import readline  # noqa: F401 - gives `input` its editing keys and its history

    while True:
        try:
            yield input(PROMPT)
        except EOFError:
            print()
            return


def _obey(line: str, conversation: Conversation, terminal: Terminal) -> bool:
    """Carry out a line that is one of our commands; return whether it was one."""
    match line.split():
        case ["/reset"]:
            conversation.reset()
            terminal.note("the conversation begins anew")
        case ["/model"]:
            terminal.note(f"{conversation.model}; there are: {', '.join(model_names(conversation.target))}")
        case ["/model", name]:
            conversation.model = name
            terminal.note(f"{name} is asked from now on")
        case ["/help"]:
            terminal.note(_HELP)
        case _:
            return False
    return True


def _ask(conversation: Conversation, question: str, terminal: Terminal, arguments: Namespace) -> int:
    shown = conversation.ask(question, terminal, reasoning=not arguments.no_reasoning)
    if shown.failure:
        terminal.error(shown.failure)
        return FAILED
    return DONE
