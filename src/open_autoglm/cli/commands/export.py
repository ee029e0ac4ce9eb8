"""`autoglm export`: models as folders that a node serves.

| target | does |
|---|---|
| `onnx SOURCE OUT` | writes a model of PyTorch, or one that ships, as an ONNX graph with keys and values |
| `manifest FOLDER` | describes a folder that came from elsewhere, with the hash of each file |
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from open_autoglm.cli.failure import DONE, CommandFailed
from open_autoglm.cli.terminal import Terminal
from open_autoglm.engines.tokenizers_layouts import LAYOUTS
from open_autoglm.errors import AutoGLMError


def configure(parser: ArgumentParser) -> None:
    """Say what may be typed."""
    targets = parser.add_subparsers(dest="target", required=True, metavar="TARGET")
    onnx = targets.add_parser("onnx", help="an ONNX graph; logits are compared with PyTorch's before it is kept")
    onnx.add_argument("source", metavar="SOURCE", help="embedded:NAME, or a folder with safetensors and a manifest")
    onnx.add_argument("out", metavar="OUT", type=Path, help="a new folder")
    onnx.add_argument("--opset", type=int, default=20, help="version of ONNX's operators; default: 20")
    manifest = targets.add_parser("manifest", help="describe a folder that you trust, as it is now")
    manifest.add_argument("folder", metavar="FOLDER", type=Path, help="with model.onnx or safetensors")
    manifest.add_argument("--layout", choices=sorted(LAYOUTS), help="of conversations; default: as its tokenizer")
    manifest.add_argument("--context", type=int, default=0, help="most tokens; default: as config.json says")
    for target in (onnx, manifest):
        target.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Write what was asked for."""
    try:
        if arguments.target == "onnx":
            return _onnx(arguments, terminal)
        return _manifest(arguments, terminal)
    except AutoGLMError as error:
        raise CommandFailed(f"export {arguments.target}: {error.message}") from error
    except OSError as error:
        raise CommandFailed(f"export {arguments.target}: {error.filename}: {error.strerror}") from error


def _onnx(arguments: Namespace, terminal: Terminal) -> int:
    from open_autoglm.engines.export_onnx import TOLERANCE, export_embedded, export_onnx

    def started() -> None:
        terminal.note("exporting; this takes a minute or so …")

    kind, _, rest = arguments.source.partition(":")
    if kind == "embedded":
        result = export_embedded(rest, arguments.out, opset=arguments.opset, on_start=started)
    else:
        source = Path(rest if kind == "transformers" and rest else arguments.source)
        result = export_onnx(source, arguments.out, opset=arguments.opset, on_start=started)
    if arguments.json:
        terminal.json({field: getattr(result, field) for field in result.__struct_fields__})
        return DONE
    terminal.line(
        f"{result.logits} logits of {result.tokens} places compared with PyTorch: they differ by "
        f"{result.difference:.2g} at most, where {TOLERANCE:g} of {result.largest:.3g} is allowed"
    )
    terminal.line(f"{result.tokens_alike} of {result.tokens} next tokens are the same")
    terminal.line(f"autoglm node --model NAME=onnx:{arguments.out}")
    return DONE


def _manifest(arguments: Namespace, terminal: Terminal) -> int:
    from open_autoglm.engines.export_manifest import describe_folder

    manifest = describe_folder(arguments.folder, layout=arguments.layout, context=arguments.context)
    if arguments.json:
        terminal.json({"kind": manifest.kind, "text": manifest.text, "version": manifest.version})
        return DONE
    text = f", conversations as {manifest.text}" if manifest.text else ""
    terminal.line(f"version {manifest.version[:12]} for {manifest.kind}: {', '.join(manifest.files)}{text}")
    return DONE
