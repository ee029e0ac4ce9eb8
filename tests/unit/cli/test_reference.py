"""The published page and the program say the same."""

from open_autoglm.cli.command import COMMANDS, PLANNED
from open_autoglm.cli.reference import PAGE, page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make docs`"


def test_every_command_is_on_it() -> None:
    text = page()
    for command in COMMANDS:
        assert f"\n## autoglm {command.name}\n" in text
    for name in PLANNED:
        assert f"`{name}`" in text


def test_options_are_on_it() -> None:
    text = page()
    for option in ("`--config` `FILE`", "`--insecure`", "`--admin-key` `file:PATH`", "`--key-file` `FILE`"):
        assert option in text
