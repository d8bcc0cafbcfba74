"""Scores and free answers of an untouched model, kept on disk for the next run of the same model.

A second run with another method, rate or seed of tuning asks the model much that it was asked
before. The same prompts at the same weights give the same results, so they are read back.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.errors import StorageError
from nasalign.inference.batches import HasTokens
from nasalign.io.digests import sha256
from nasalign.io.files import write_tensors
from nasalign.io.storage import cache_folder
from nasalign.models import processes
from nasalign.models.loading import fingerprint
from nasalign.progress import Progress

LIMIT = 2 * 2**30
"""Bytes of kept results; the least recently used go first."""
_CHUNK = 2**24  # of eight bytes each, held beside the weights while their digest is taken
_TEXT = "result"  # name in the metadata of a file
T = TypeVar("T")

_active: ContextVar["KeptResults | None"] = ContextVar("kept results", default=None)


def results_folder() -> Path | None:
    """Return where results are kept: ``NASALIGN_RESULTS``, or a part of the cache folder.

    None where the variable is ``off``.
    """
    named = os.environ.get("NASALIGN_RESULTS")
    if named == "off":
        return None
    return Path(named) if named else cache_folder() / "results"


def weights_digest(model: PreTrainedModel) -> str:
    """Return a digest over every byte of the weights; unlike ``fingerprint``, none is left out.

    Of the bytes, as 64-bit integers, the sum and the sum weighted by position are taken modulo
    2**64. That takes a second for a gigabyte, and any changed row changes it.
    """
    parts = []
    for name, weight in sorted(model.named_parameters()):
        raw = weight.detach().contiguous().reshape(-1).view(torch.uint8)
        whole = raw.numel() // 8 * 8
        sums = torch.zeros(2, dtype=torch.int64, device=raw.device)
        for number, chunk in enumerate(raw[:whole].view(torch.int64).split(_CHUNK)):
            places = torch.arange(1, len(chunk) + 1, device=raw.device) + number * _CHUNK
            sums += torch.stack([chunk.sum(), (chunk * places).sum()])
        rest = raw[whole:].tolist()
        parts.append(f"{name}{tuple(weight.shape)}{weight.dtype}{sums.tolist()}{rest}")
    return sha256(parts)


@dataclass
class KeptResults:
    """Results of one untouched model, in a folder.

    Attributes:
        folder: of the results of all models, one file each.
        state: what decides results beside prompts and arguments: weights, tokenizer and versions.
        reused: how many results of each kind were read back.
    """

    folder: Path
    state: str
    reused: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> "KeptResults | None":
        """Return the kept results of a model as it is now; None where none are to be kept."""
        folder = results_folder()
        if folder is None or processes.count() > 1:
            return None
        generation = model.generation_config
        state = [
            fingerprint(model),
            weights_digest(model),
            str(model.device.type),
            str(model.config._attn_implementation),
            json.dumps(generation.to_dict() if generation else {}, sort_keys=True, default=str),
            tokenizer.backend_tokenizer.to_str(),
            *(version(name) for name in ("nasalign", "torch", "transformers", "tokenizers")),
        ]
        return cls(folder, sha256(f"{len(part)}:{part}" for part in state))

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let ``reusing`` read and keep results: inside, the model must be as it was."""
        token = _active.set(self)
        try:
            yield
        finally:
            _active.reset(token)

    def read(self, key: str) -> tuple[dict[str, Tensor], Any] | None:
        """Return the tensors and the plain value kept under a key, or None."""
        path = self._path(key)
        try:
            with safe_open(path, "pt") as file:
                value = json.loads(file.metadata()[_TEXT])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            os.utime(path)
        except (OSError, SafetensorError, ValueError, LookupError, TypeError):
            return None  # there is none, or the file is damaged: it is made again
        return tensors, value

    def keep(self, key: str, tensors: Mapping[str, Tensor], value: Any) -> None:
        """Keep tensors and a plain value under a key; nothing happens where that fails."""
        with suppress(OSError, StorageError):  # a full disk is no reason to end a run
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The format has no file without tensors.
            some = dict(tensors) or {"none": torch.zeros(0)}
            write_tensors(self._path(key), some, {_TEXT: json.dumps(value)})
            self._path(key).chmod(0o600)  # answers may hold what only their owner may read
            self._remove_old()

    def _remove_old(self) -> None:
        """Remove the least recently used results beyond the limit."""
        files = [(path, path.stat()) for path in self.folder.glob("*.safetensors")]
        files.sort(key=lambda item: item[1].st_mtime, reverse=True)
        total = 0
        for path, status in files:
            total += status.st_size
            if total > LIMIT:
                path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"


def reusing(
    kind: str,
    prompts: Sequence[HasTokens],
    arguments: Sequence[Any],
    make: Callable[[], T],
    pack: Callable[[T], tuple[Mapping[str, Tensor], Any]],
    unpack: Callable[[dict[str, Tensor], Any], T],
    progress: Progress | None = None,
) -> T:
    """Return kept results of the same prompts and arguments, or make and keep them.

    Results are kept only inside ``KeptResults.active``, so for an untouched model.

    Args:
        kind: what the results are, in the plural.
        prompts: what the model is asked.
        arguments: what else decides the results.
        make: computes them.
        pack: returns them as tensors and a plain value.
        unpack: the inverse of ``pack``.
        progress: called with the number of prompts where results were kept.
    """
    kept = _active.get()
    if kept is None or not prompts:
        return make()
    parts = [kept.state, kind, repr(arguments), *(f"\n{prompt!r}" for prompt in prompts)]
    key = sha256(parts)
    found = kept.read(key)
    if found is None:
        result = make()
        kept.keep(key, *pack(result))
        return result
    kept.reused[kind] = kept.reused.get(kind, 0) + len(prompts)
    if progress:
        progress(len(prompts))
    return unpack(*found)
