"""Nothing that we ship can run what a model's file says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[3] / "src"
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
CALLS = {("torch", "load"), ("torch.jit", "load"), ("torch.package", "PackageImporter"), ("numpy", "load")}
OPTIONS = {"allow_pickle", "trust_remote_code", "weights_only"}
BETWEEN_OUR_PROCESSES = SOURCE / "open_autoglm" / "server" / "workers" / "channel.py"
"""Reads what the same program wrote at the other end of a socket pair, made before it forked: no file, no stranger."""


def dangers(text: str) -> list[str]:
    """What in a module could execute a file of weights."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names if each.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module] * (node.module.split(".")[0] in MODULES)
            found += [each.name for each in node.names if (node.module, each.name) in CALLS]
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            found += [name] * (tuple(name.rsplit(".", 1)) in CALLS or name in ("np.load", "eval", "exec"))
            found += [
                keyword.arg
                for keyword in node.keywords
                if keyword.arg in OPTIONS and not (isinstance(keyword.value, ast.Constant) and not keyword.value.value)
            ]
        elif isinstance(node, ast.Attribute) and node.attr == "register_custom_ops_library":
            found.append(node.attr)
    return found


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import torch; torch.load('x')",
        "from torch import load",
        "np.load('x')",
        "f(trust_remote_code=True)",
        "f(allow_pickle=flag)",
        "options.register_custom_ops_library('x.so')",
        "eval('1')",
    ],
)
def test_dangers_are_seen(text: str) -> None:
    assert dangers(text)


def test_no_module_executes_what_a_file_says() -> None:
    found = {path: each for path in SOURCE.glob("**/*.py") if (each := dangers(path.read_text(encoding="utf-8")))}
    assert found.pop(BETWEEN_OUR_PROCESSES) == ["pickle"]
    assert not found
