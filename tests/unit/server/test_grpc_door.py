"""The gRPC listener's place in a server that has none, or cannot have one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from open_autoglm.errors import ServerError
from open_autoglm.server.grpc_door import check_packages


def test_a_missing_package_is_named_with_what_to_do() -> None:
    with pytest.raises(ServerError, match=r"needs the package grpcio, .* pip install 'open-autoglm\[grpc\]'"):
        check_packages(lambda module: None if module == "grpc" else object())

    def find(module: str) -> object:
        if module == "google.protobuf":
            raise ModuleNotFoundError("No module named 'google'")
        return object()

    with pytest.raises(ServerError, match="needs the package protobuf"):
        check_packages(find)


def test_what_is_there_is_found() -> None:
    check_packages()


def test_nothing_of_grpc_is_loaded_with_the_server() -> None:
    program = "import sys, open_autoglm.server.run; print(sorted({'grpc', 'google.protobuf'} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, encoding="utf-8")
    assert told.stdout == "[]\n"
