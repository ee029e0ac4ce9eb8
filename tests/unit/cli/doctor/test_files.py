"""Folders, keys and certificates."""

import datetime
import os
from pathlib import Path

import trustme

from open_autoglm.cli.doctor.files import EXPIRY_WARNED_S, check_admin_key, check_data_folder, check_tls
from open_autoglm.transport.settings import TlsFiles

NOW_S = datetime.datetime.now(datetime.UTC).timestamp()
DAY_S = 86_400.0


def certificate(folder: Path, days: float) -> TlsFiles:
    """A certificate that ends in so many days."""
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    issued = trustme.CA().issue_cert("localhost", not_after=end)
    cert, key = folder / "cert.pem", folder / "key.pem"
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)
    key.chmod(0o600)
    return TlsFiles(cert=str(cert), key=str(key))


def test_a_data_folder_that_will_be_made(tmp_path: Path) -> None:
    assert check_data_folder(tmp_path / "a" / "b").state == "ok"
    assert not (tmp_path / "a").exists()


def test_a_data_folder_of_its_owner(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    assert check_data_folder(folder).state == "ok"
    folder.chmod(0o755)
    finding = check_data_folder(folder)
    assert finding.state == "warn"
    assert finding.advice.startswith("chmod 700")


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert check_data_folder(tmp_path / "data").state == "fail"
    assert check_data_folder(tmp_path / "data" / "below").state == "fail"


def test_an_admin_key_that_others_can_read(tmp_path: Path) -> None:
    path = tmp_path / "admin.key"
    assert check_admin_key(path) == []
    path.write_text("k")
    path.chmod(0o600)
    assert [f.state for f in check_admin_key(path)] == ["ok"]
    path.chmod(0o644)
    assert [f.state for f in check_admin_key(path)] == ["fail"]


def test_no_tls_is_nothing_to_check() -> None:
    assert check_tls(TlsFiles(), NOW_S) == []


def test_a_good_certificate(tmp_path: Path) -> None:
    [finding] = check_tls(certificate(tmp_path, 100), NOW_S)
    assert finding.state == "ok"
    assert "good until" in finding.message


def test_a_certificate_that_ends_soon(tmp_path: Path) -> None:
    [finding] = check_tls(certificate(tmp_path, EXPIRY_WARNED_S / DAY_S - 1), NOW_S)
    assert finding.state == "warn"


def test_a_certificate_that_has_ended(tmp_path: Path) -> None:
    [finding] = check_tls(certificate(tmp_path, -1), NOW_S)
    assert finding.state == "fail"
    assert "expired" in finding.message


def test_a_key_of_another_certificate(tmp_path: Path) -> None:
    files = certificate(tmp_path, 100)
    other = tmp_path / "other"
    other.mkdir()
    [finding] = check_tls(TlsFiles(cert=files.cert, key=certificate(other, 100).key), NOW_S)
    assert finding.state == "fail"


def test_files_that_are_missing_or_no_pem(tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("hello")
    for cert in ("none.pem", "text.pem"):
        [finding] = check_tls(TlsFiles(cert=str(tmp_path / cert)), NOW_S)
        assert finding.state == "fail"
        assert cert in finding.message


def test_a_key_that_others_can_read(tmp_path: Path) -> None:
    files = certificate(tmp_path, 100)
    assert files.key is not None
    os.chmod(files.key, 0o644)
    assert [finding.state for finding in check_tls(files, NOW_S)] == ["ok", "warn"]
