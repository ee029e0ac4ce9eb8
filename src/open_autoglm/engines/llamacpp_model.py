"""Models in GGUF files, computed by llama.cpp through `llama-cpp-python`.

Each row of a batch is a sequence of the library's; when a row moves, the two exchange their sequences and nothing is
copied. Invariant: the library is given a file whose header was checked (`gguf_check`) and whose SHA-256 is the version.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from open_autoglm.engines.events import GenerateRequest
from open_autoglm.engines.gguf_check import check_gguf
from open_autoglm.engines.llamacpp_text import GgufTokenizer, text_of
from open_autoglm.engines.step_model import Ids, Logits, Prompt
from open_autoglm.engines.text_side import TextSide
from open_autoglm.errors import ServerError

CONTEXT_MAX: Final = 8192
"""Most tokens of a request: the library takes memory for all rows at once."""
PASS_TOKENS_MAX: Final = 512
_ITEM_BYTES: Final = 2  # keys and values are float16


def open_llamacpp(path: Path, name: str, threads: int = 0) -> LlamaCppModel:
    """Read and check a GGUF file.

    Args:
        path: the file.
        name: that clients use.
        threads: of the library; 0 leaves the choice to it.

    Raises:
        ServerError: `internal_error`, with what is wrong and what to do.
    """
    try:
        import llama_cpp
    except ImportError as error:
        raise ServerError("internal_error", "llama.cpp is missing; install open-autoglm[llamacpp]") from error
    try:
        check_gguf(path)
        with path.open("rb") as file:
            version = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        raise ServerError("internal_error", f"{str(path)!r} {error}") from error
    return LlamaCppModel(llama_cpp, path, name, version, threads)


class LlamaCppModel:
    """See the module; a `StepModel`. Only `prepare` is thread safe.

    Args:
        library: the module `llama_cpp`.
        path: of a file that was checked.
        name, version: of the model.
        threads: of the library; 0 leaves the choice to it.

    Raises:
        ServerError: `internal_error`, the library does not take it.
    """

    reuses_prefix = False
    piece_tokens = 0

    def __init__(self, library: Any, path: Path, name: str, version: str, threads: int) -> None:
        self.name = name
        self.version = version
        self.library = library
        self.threads = threads
        self.log = library.llama_log_callback(_silent)  # kept, since the library keeps its address
        library.llama_log_set(self.log, ctypes.c_void_p(0))
        library.llama_backend_init()
        parameters = library.llama_model_default_params()
        parameters.n_gpu_layers = 0
        parameters.check_tensors = True
        self.handle = library.llama_model_load_from_file(str(path).encode(), parameters)
        if not self.handle:
            raise ServerError("internal_error", f"{str(path)!r} cannot be loaded by llama.cpp")
        tokenizer = GgufTokenizer(library, library.llama_model_get_vocab(self.handle))
        self.text: TextSide = text_of(tokenizer, version)
        self.vocabulary = tokenizer.get_vocab_size()
        self.context = min(int(library.llama_model_n_ctx_train(self.handle)), CONTEXT_MAX)
        width = library.llama_model_n_embd(self.handle) // library.llama_model_n_head(self.handle)
        heads = library.llama_model_n_layer(self.handle) * library.llama_model_n_head_kv(self.handle)
        self._token_bytes: int = 2 * heads * width * _ITEM_BYTES

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self.library.llama_model_free(self.handle)

    @property
    def tokenizer(self) -> str:
        """Names the vocabulary."""
        return self.text.tokenizer

    @property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end an answer."""
        return self.text.end_tokens

    def prepare(self, request: GenerateRequest) -> Prompt:
        """See `StepModel`."""
        return self.text.prepare(request, self.context)

    def memory_bytes(self, tokens: int) -> int:
        """See `StepModel`."""
        return self._token_bytes * tokens

    def new_cache(self, rows: int) -> LlamaCppCache:
        """See `StepModel`."""
        return LlamaCppCache(self, rows)

    def prefill(self, cache: LlamaCppCache, first_row: int, prompts: Sequence[list[int]], start: int = 0) -> Logits:
        """See `StepModel`."""
        logits = []
        for row, prompt in enumerate(prompts, first_row):
            cache.clear(row)
            for at in range(0, len(prompt), PASS_TOKENS_MAX):
                part = prompt[at : at + PASS_TOKENS_MAX]
                last = cache.compute([(token, at + i, row, False) for i, token in enumerate(part[:-1])]
                                     + [(part[-1], at + len(part) - 1, row, True)])  # fmt: skip
            logits.append(last)
        return np.concatenate(logits)

    def decode(self, cache: LlamaCppCache, tokens: Ids, lengths: Ids) -> Logits:
        """See `StepModel`."""
        pairs = zip(tokens.tolist(), lengths.tolist(), strict=True)
        return cache.compute([(token, length, row, True) for row, (token, length) in enumerate(pairs)])


class LlamaCppCache:
    """The library's context: keys and values of so many rows, and the batch that they are computed in.

    Args:
        model: that it belongs to, and keeps loaded.
        rows: most requests.
    """

    __slots__ = ("_batch", "_handle", "_memory", "_model", "_sequences")

    def __init__(self, model: LlamaCppModel, rows: int) -> None:
        library = model.library
        self._model = model
        self._sequences = list(range(rows))
        parameters = library.llama_context_default_params()
        parameters.n_ctx = rows * model.context
        parameters.n_seq_max = rows
        parameters.n_batch = parameters.n_ubatch = max(PASS_TOKENS_MAX, rows)
        parameters.kv_unified = True
        if model.threads:
            parameters.n_threads = parameters.n_threads_batch = model.threads
        self._handle = library.llama_init_from_model(model.handle, parameters)
        if not self._handle:
            raise ServerError("internal_error", f"no memory for {rows} requests of {model.name!r}")
        self._memory = library.llama_get_memory(self._handle)
        self._batch = library.llama_batch_init(parameters.n_batch, 0, 1)

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._model.library.llama_free(self._handle)
        if getattr(self, "_batch", None):
            self._model.library.llama_batch_free(self._batch)

    def clear(self, row: int) -> None:
        """Forget what a row holds."""
        self._model.library.llama_memory_seq_rm(self._memory, self._sequences[row], -1, -1)

    def move(self, source: int, target: int, tokens: int) -> None:
        """See `step_model.Cache`."""
        held = self._sequences
        held[source], held[target] = held[target], held[source]

    def save(self, row: int, tokens: int) -> Any:
        """See `step_model.Cache`; the model reuses no prefix."""
        raise NotImplementedError

    def restore(self, row: int, saved: Any, tokens: int) -> None:
        """See `save`."""
        raise NotImplementedError

    def compute(self, tokens: list[tuple[int, int, int, bool]]) -> Logits:
        """One pass.

        Args:
            tokens: token, position, row, and whether its logits are wanted, for each.

        Returns:
            Logits `(wanted, vocabulary)`.
        """
        model, batch = self._model, self._batch
        batch.n_tokens = len(tokens)
        for place, (token, position, row, wanted) in enumerate(tokens):
            batch.token[place] = token
            batch.pos[place] = position
            batch.n_seq_id[place] = 1
            batch.seq_id[place][0] = self._sequences[row]
            batch.logits[place] = wanted
        code = model.library.llama_decode(self._handle, batch)
        if code:
            raise ServerError("internal_error", f"llama.cpp could not compute a pass ({code})")
        rows = [
            np.ctypeslib.as_array(model.library.llama_get_logits_ith(self._handle, place), (model.vocabulary,))
            for place, (_, _, _, wanted) in enumerate(tokens)
            if wanted
        ]
        return np.array(rows, np.float32)


def _silent(level: int, text: bytes, data: Any) -> None:
    """The library's notes about itself."""
