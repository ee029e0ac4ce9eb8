"""Text that came from elsewhere is made fit to be written down."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_autoglm.telemetry.redact import FIELD_BYTES_MAX, cap, clean, escape_controls, redact

SECRETS = [
    "sk-proj-Abc123Def456",
    "sk-ant-api03-xyz_XYZ-0123456789",
    "mcp_" + "0123456789abcdef" * 4 + "zz",
    "mcp_abc123def",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("frame", ["{}", "key {} is wrong", '{{"token": "{}"}}', "api_key={}&x=1", "'{}'", "_{}"])
def test_a_key_is_replaced_wherever_it_stands(secret: str, frame: str) -> None:
    shown = redact(frame.format(secret))
    assert secret not in shown
    assert secret[8:] not in shown
    assert "***" in shown


@pytest.mark.parametrize("header", ["Bearer hunter2hunter2", "bearer hunter2", "BEARER\thunter2"])
def test_what_follows_bearer_is_replaced_whatever_it_looks_like(header: str) -> None:
    assert "hunter2" not in redact(f"authorization: {header}, next")
    assert redact(f"authorization: {header}, next").endswith(", next")


@pytest.mark.parametrize("text", ["a\nsk-Abc1Def456", "a\tsk-Abc1Def456", "\x1fsk-Abc1Def456", "Bearer\nAbc1Def456"])
def test_a_key_behind_an_escape_of_json_is_replaced_and_json_stays_json(text: str) -> None:
    shown = redact(json.dumps({"text": text}))
    assert "Def456" not in shown
    assert json.loads(shown) == {"text": redact(text)}


def test_a_password_in_a_url_is_replaced_and_the_host_stays() -> None:
    assert redact("https://user:pass@models.example/v1") == "https://***@models.example/v1"
    assert redact("https://models.example/v1?to=a@b") == "https://models.example/v1?to=a@b"


@pytest.mark.parametrize(
    "text",
    ["mcp_requests_total", "mcp_config.yaml", "mcp_server/__main__.py", "task-decomposition", "a risk-assessment"],
)
def test_ordinary_words_stay(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a\r\nb", "a\\x0d\\x0ab"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u2028b\u202eb", "a\\u2028b\\u202eb"),
        ("lone \ud800", "lone \\ud800"),
        ("模型 ok", "模型 ok"),
    ],
)
def test_controls_become_visible(raw: str, shown: str) -> None:
    assert escape_controls(raw) == shown


def test_lines_stay_where_the_encoder_escapes_them() -> None:
    assert escape_controls("a\n\tb\r\x1b", keep_lines=True) == "a\n\tb\\x0d\\x1b"


def test_a_long_text_is_cut_by_bytes_between_characters() -> None:
    cut = cap("模" * 2000)
    assert len(cut.encode()) <= FIELD_BYTES_MAX
    assert cut.endswith("…")
    assert cap("x" * FIELD_BYTES_MAX) == "x" * FIELD_BYTES_MAX


def test_a_secret_across_the_cut_is_not_half_shown() -> None:
    secret = "mcp_" + "0123456789abcdef" * 4 + "zz"
    for before in range(FIELD_BYTES_MAX - 80, FIELD_BYTES_MAX + 2):
        shown = clean("x" * (before - 1) + " " + secret)
        assert secret[4:12] not in shown


@given(st.text(max_size=6000) | st.builds(lambda a, n: a * n, st.text(min_size=1, max_size=3), st.integers(1, 9000)))
def test_cleaned_text_keeps_the_invariant(text: str) -> None:
    shown = clean(text)
    assert len(shown.encode("utf-8")) <= FIELD_BYTES_MAX
    assert not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in shown)
