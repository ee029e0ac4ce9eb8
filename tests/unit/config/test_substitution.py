"""`${NAME}` and `file:PATH`: what they stand for, and where they do not."""

import os
from pathlib import Path

import pytest

from open_autoglm.config import load_config, parse_config
from open_autoglm.config.substitution import EXPANDED_BYTES_MAX, Refused, Substitution
from open_autoglm.config.tree import Scalar
from open_autoglm.errors import ConfigError
from open_autoglm.secret import Secret

from .conftest import Parse, Problems


def secret(text: str, environ: dict[str, str] | None = None, *, folder: str = "", trusted: bool = True) -> Secret:
    return Substitution(environ or {}, folder, trusted).secret(Scalar(text, 1, True))


def private(path: Path, content: str, mode: int = 0o600) -> Path:
    path.write_text(content, encoding="utf-8")
    path.chmod(mode)
    return path


def test_a_value_stands_for_itself() -> None:
    assert (secret("abc").reveal(), secret("abc").origin) == ("abc", "value")


def test_a_variable() -> None:
    made = secret("Bearer-${A}${B}", {"A": "1", "B": "2"})
    assert (made.reveal(), made.origin) == ("Bearer-12", "env")


def test_a_literal_reference() -> None:
    assert secret("$${A}").reveal() == "${A}"


def test_what_a_variable_holds_is_not_looked_into_again() -> None:
    assert secret("${A}", {"A": "${B}", "B": "x"}).reveal() == "${B}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${MISSING}", "variable MISSING is not set"),
        ("${EMPTY}", "is empty"),
        ("", "is empty"),
        ("${1}", "begins the name"),
        ("${}", "begins the name"),
        ("${A", "begins the name"),
        ("${LONG}", "too long"),
        ("a b\n", "printable ASCII"),
        (" a", "printable ASCII"),
        ("ключ", "printable ASCII"),
        ("file:", "needs a path"),
        ("file:/no/such", "no such file"),
        ("file:/", "is not a file"),
        ("file:/dev/zero", "is not a file"),
    ],
)
def test_what_cannot_be_a_secret(text: str, message: str) -> None:
    with pytest.raises(Refused, match=message):
        secret(text, {"EMPTY": "", "LONG": "x" * 100_000})


def test_all_values_together_are_bounded() -> None:
    substitution = Substitution({"A": "x" * 2**15}, "", True)
    for _ in range(EXPANDED_BYTES_MAX // 2**15):
        substitution.expand(Scalar("${A}", 1, True))
    with pytest.raises(Refused, match="too long"):
        substitution.expand(Scalar("${A}", 1, True))


def test_a_file_is_read_without_the_line_break_at_its_end(tmp_path: Path) -> None:
    private(tmp_path / "key", "from-the-file\n")
    made = secret("file:key", folder=str(tmp_path))
    assert (made.reveal(), made.origin) == ("from-the-file", "file")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = private(tmp_path / "key", "canary", mode)
    with pytest.raises(Refused, match="chmod 600") as caught:
        secret(f"file:{path}")
    assert "canary" not in str(caught.value)


def test_a_file_may_not_be_large_or_a_pipe(tmp_path: Path) -> None:
    private(tmp_path / "large", "x" * 70_000)
    with pytest.raises(Refused, match="larger than"):
        secret("file:large", folder=str(tmp_path))
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(Refused, match="is not a file"):
        secret("file:pipe", folder=str(tmp_path))


def test_without_trust_both_are_refused(problems: Problems, tmp_path: Path) -> None:
    path = private(tmp_path / "key", "canary")
    found = problems(
        f"server: {{host: '${{HOST}}', admin_key: 'file:{path}'}}\nauth: {{api_key: '${{KEY}}'}}",
        {"HOST": "canary", "KEY": "canary"},
        trusted=False,
    )
    assert [problem.path for problem in found] == ["server.host", "server.admin_key", "auth.api_key[0]"]
    assert all("in files only" in problem.message for problem in found)
    assert not any("canary" in str(problem) for problem in found)


def test_a_reference_may_stand_where_a_number_is_wanted(parse: Parse) -> None:
    environ = {"PORT": "9000", "ON": "true", "GAP": "2s", "LEVEL": "DEBUG"}
    config = parse(
        'server: {port: "${PORT}"}\nlogging: {prompts: ${ON}, level: ${LEVEL}}\ntimeouts: {gap: ${GAP}}', environ
    )
    assert config.config.server.port == 9000
    assert config.config.logging.prompts is True
    assert config.config.logging.level == "DEBUG"
    assert config.config.timeouts.gap_s == 2.0


def test_a_variable_that_holds_null_is_not_nothing(parse: Parse) -> None:
    """Otherwise a wrong variable could switch authentication off."""
    assert parse("auth: {api_key: ${KEY}}", {"KEY": "null"}).config.auth.enabled


def test_a_message_shows_the_reference_and_not_what_it_stands_for(problems: Problems) -> None:
    [problem] = problems("server: {port: ${PORT}}", {"PORT": "canary"})
    assert "'${PORT}'" in problem.message
    assert "canary" not in problem.message


def test_paths_count_from_the_folder_of_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private(tmp_path / "key", "from-the-file")
    path = private(tmp_path / "config.yaml", "auth: {api_key: file:key}")
    monkeypatch.chdir("/")
    assert load_config(str(path), {}).config.auth.keys[0].key.reveal() == "from-the-file"


def test_inline_secrets_are_noticed_where_others_can_read(tmp_path: Path) -> None:
    private(tmp_path / "key", "from-the-file")
    path = private(
        tmp_path / "config.yaml", "auth: {api_key: [file:key, '${KEY}']}\nmodels: [{name: a, endpoint: http://a}]"
    )
    path.chmod(0o644)
    assert load_config(str(path), {"KEY": "from-env"}).warnings == []


def test_no_secret_is_ever_shown_by_the_result() -> None:
    loaded = parse_config("auth: {api_key: canary}", source="a.yaml", environ={}, trusted=True)
    assert "canary" not in repr(loaded)
    assert "canary" not in str(loaded.config)
    with pytest.raises(ConfigError) as caught:
        parse_config("auth: {api_key: [canary, canary]}", source="a.yaml", environ={}, trusted=True)
    assert "canary" not in str(caught.value)
