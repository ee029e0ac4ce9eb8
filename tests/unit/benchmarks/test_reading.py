"""What the rig reads from others: wrk's summary, HTTP answers, versions, argument files, places in configurations."""

from pathlib import Path

import pytest
from benchmarks.rig import machine, probe, targets, wrk

WRK = (
    "Running 2s test @ http://127.0.0.1:1/\n  1 threads and 64 connections\n\n"
    '{"requests":126768,"duration_us":2001700,"bytes":9,"connect":0,"read":0,"write":0,"status":0,"timeout":0,'
    '"p50_us":888.0,"p99_us":1473.0}\n'
)


def test_wrk_summary_is_read_in_seconds() -> None:
    load = wrk.parse_output(WRK)
    assert (load.requests, load.fault) == (126768, "")
    assert (load.duration_s, load.p50_s, load.p99_s) == pytest.approx((2.0017, 0.000888, 0.001473))


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('"status":0', '"status":3', "3 status errors"),
        ('"read":0', '"read":1', "1 read errors"),
        ('"timeout":0', '"timeout":2', "2 timeout errors"),
        ('"requests":126768', '"requests":0', "no answer at all"),
    ],
)
def test_any_failed_request_is_a_fault(old: str, new: str, fault: str) -> None:
    assert wrk.parse_output(WRK.replace(old, new)).fault == fault


def test_wrk_without_a_summary_is_refused() -> None:
    with pytest.raises(ValueError, match="unable to connect"):
        wrk.parse_output("unable to connect to 127.0.0.1:1 Connection refused")


def test_answers_are_whole_only_at_their_last_byte() -> None:
    sized = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
    chunked = b"HTTP/1.1 429 Busy\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    for answer, status in ((sized, 200), (chunked, 429)):
        for end in range(len(answer)):
            assert probe.parse_answer(answer[:end]) is None
        assert probe.parse_answer(answer) == (status, b"abc")


def test_bytes_that_are_no_answer_are_refused() -> None:
    with pytest.raises((ValueError, IndexError)):
        probe.parse_answer(b"SSH-2.0-other\r\n\r\n")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("nginx version: nginx/1.22.1\n", "1.22.1"),
        ("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\nStatus: long-term\n", "2.6.12-1+deb12u4"),
        ("0.1.17\n", "0.1.17"),
        ("in development\n", "in development"),
        ("", ""),
    ],
)
def test_versions_are_found(text: str, version: str) -> None:
    assert targets.parse_version(text) == version


def test_argument_files_lose_comments_and_empty_lines() -> None:
    assert targets.parse_arguments("# why\n--a=1\n\n  --b\nhttp://x:1/#y\n") == ["--a=1", "--b", "http://x:1/#y"]


def test_every_place_of_every_configuration_is_filled(tmp_path: Path) -> None:
    place = targets.Place(port=1111, admin_port=2222, upstream_ports=(3333, 4444), folder=tmp_path)
    files = [*targets.CONFIGS.iterdir()]
    assert len(files) >= 8
    for file in files:
        if file.is_file():
            text = targets.write_config(file.name, place).read_text()
            assert "@PORT@" not in text
            assert not any(f"@{word}@" in text for word in ("ADMIN_PORT", "UPSTREAM_A", "UPSTREAM_B", "DIR", "KEY"))


def test_a_missing_program_is_named_with_what_to_do(tmp_path: Path) -> None:
    target = targets.Target("none", "", config="nginx.conf", program=".venvs/none/bin/none")
    place = targets.Place(1, 2, (3, 4), tmp_path)
    assert targets.executable(target) is None
    with pytest.raises(FileNotFoundError, match=r"run benchmarks/setup\.sh"):
        targets.command(target, place)


def test_every_target_has_a_configuration_and_a_name_of_its_own() -> None:
    names = [target.name for target in targets.TARGETS]
    assert len(set(names)) == len(names)
    for target in targets.TARGETS:
        assert target.name == targets.DIRECT or (targets.CONFIGS / target.config).is_file()


def test_fields_of_proc_files() -> None:
    assert (
        machine.parse_field("processor\t: 0\nmodel name\t: EPYC: a\nmodel name\t: other\n", "model name") == "EPYC: a"
    )
    assert machine.parse_field("", "model name") == "0"
