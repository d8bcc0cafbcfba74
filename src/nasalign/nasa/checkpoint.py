"""Tuning that can be killed at any point: its state after each epoch, in two files.

``kept.safetensors`` has the rows of the heads that are done, and is written after each head;
``epoch.safetensors`` has the head at hand, and is written after each of its epochs. To go on, the
heads that are done are skipped, and of the head at hand the epochs that are done give back what
they gave: Algorithm 1 itself knows nothing of it. The records of the heads that are done are in
``kept.safetensors`` too, so that rows and records are always of the same heads. Both files have
their own SHA-256; one that is not what was written counts as none.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nasalign.head_rows.rows import read_weight_rows, write_rows
from nasalign.io.files import plain, tensor_digest, write_tensors
from nasalign.io.storage import make_subfolder
from nasalign.models.head_layouts import RowSlice
from nasalign.nas.heads import Head, single_head_nas
from nasalign.nasa.algorithm import Measurement
from nasalign.nasa.decisions import EpochRecord, HeadRecord, as_row
from nasalign.nasa.training import RowTuner

_META = "nasalign"


@dataclass(frozen=True)
class Epoch:
    """The result of one epoch of the current head."""

    loss: float
    measurement: Measurement


class CheckpointedTuner:
    """A ``RowTuner`` that keeps its state on disk; a ``HeadTuner`` for Algorithm 1.

    Args:
        tuner: trains and measures.
        folder: holds the state, which is loaded if it is there; None to keep none.
        say: reports a broken file.

    Attributes:
        heads_done: number of heads in the checkpoint.
        history: their rows of ``tuning.jsonl``.
    """

    def __init__(
        self, tuner: RowTuner, folder: Path | None, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.tuner, self.folder, self._say = tuner, folder, say
        self.heads_done = 0
        self.history: list[dict[str, Any]] = []
        self._changed: dict[RowSlice, Tensor] = {}  # rows of kept heads
        self._slices: tuple[RowSlice, ...] = ()
        self._epochs: list[Epoch] = []  # of the head at hand
        self._given_back: list[Epoch] = []  # of them, those that are still to be given back
        self._loss: float | None = None
        self._scaled = False  # the last epoch's update, which is measured anew
        self._written: Measurement | None = None  # the state of V after the last head, if rounded
        self._state: Measurement | None = None  # of the model, between two heads
        if folder:
            make_subfolder(folder)
            self._take_up(folder / "kept.safetensors")

    def measure(self) -> Measurement:
        """Score V, or return the stored measurement of an epoch that is replayed."""
        if self._scaled:
            return self.tuner.measure()
        # Algorithm 1 calls train_epoch and measure in turn: a loss is pending after an epoch.
        if self._given_back and self._loss is not None:
            self._loss = None
            return self._given_back.pop(0).measurement
        if self._loss is None and self._state is not None:  # a resumed run begins
            return self._state
        now = self.tuner.measure()
        if self._loss is None:
            self._state = now
        else:
            self._epochs.append(Epoch(self._loss, now))
            self._loss = None
            self._keep_epoch()
        return now

    def begin(self, head: Head) -> None:
        """Begin a head; its epochs in the checkpoint are replayed before new ones are trained."""
        self.tuner.begin(head)
        self._slices = tuple(self.tuner.rows.parameters)
        self._epochs = []
        path = self.folder / "epoch.safetensors" if self.folder else None
        if path:
            self._take_up_epochs(path, head)
        self._given_back = list(self._epochs)

    def train_epoch(self) -> float:
        """Train an epoch, or return the stored loss of one that is replayed."""
        self._loss = self._given_back[0].loss if self._given_back else self.tuner.train_epoch()
        return self._loss

    def scale(self, share: float) -> None:
        """Shorten the update of the last epoch; a resumed run shortens it again."""
        self.tuner.scale(share)
        self._scaled = True

    def restore(self) -> None:
        """Restore the rows of the head to their values at ``begin``."""
        self.tuner.restore()

    def finish(self) -> Measurement | None:
        """End the work on the head; return the state of V where the weights have rounded it."""
        if self.tuner.tuned:
            for where in self._slices:
                self._changed[where] = read_weight_rows(self.tuner.model, where)
        self._written = self.tuner.finish()
        self._loss, self._slices, self._scaled = None, (), False
        return self._written

    def abandon(self) -> None:
        """Restore the rows of a head that is not finished."""
        if self._slices:
            self.tuner.restore()

    def head_is_done(self, history: Sequence[EpochRecord | HeadRecord]) -> None:
        """Store the rows and records of all heads so far; the last record is that of the head."""
        record = history[-1]
        assert isinstance(record, HeadRecord)
        self.heads_done += 1
        self.history = [as_row(one) for one in history]
        assert self.tuner.nas is not None
        assert self._state is not None
        # A cancelled head leaves the state of before it.
        share = record.yes_share if record.kept else self._state.yes_share
        share = self._written.yes_share if self._written else share
        self._state = Measurement(single_head_nas(self.tuner.nas), share)
        if not self.folder:
            return
        tensors = {f"{w.module}|{w.start}|{w.stop}": rows for w, rows in self._changed.items()}
        _write(
            self.folder / "kept.safetensors",
            {name: rows.cpu() for name, rows in tensors.items()} | {"nas": self.tuner.nas},
            {"heads_done": self.heads_done, "yes_share": share, "history": plain(self.history)},
        )

    def _take_up(self, path: Path) -> None:
        """Write the rows of the finished heads into the model."""
        found = self._read(path)
        if found is None:
            return
        tensors, meta = found
        self.tuner.nas = tensors.pop("nas")
        self.heads_done, self.history = meta["heads_done"], meta["history"]
        self._state = Measurement(single_head_nas(self.tuner.nas), meta["yes_share"])
        for name, rows in tensors.items():
            module, start, stop = name.split("|")
            where = RowSlice(module, int(start), int(stop))
            self._changed[where] = rows
            write_rows(self.tuner.model, where, rows)

    def _keep_epoch(self) -> None:
        if not self.folder:
            return
        tensors, meta = self.tuner.head_state()
        tensors["measured"] = torch.stack([epoch.measurement.nas for epoch in self._epochs])
        meta |= {
            "heads_done": self.heads_done,
            "losses": [epoch.loss for epoch in self._epochs],
            "yes_shares": [epoch.measurement.yes_share for epoch in self._epochs],
        }
        _write(self.folder / "epoch.safetensors", tensors, meta)

    def _take_up_epochs(self, path: Path, head: Head) -> None:
        """Restore the state after the last stored epoch, if the file is about this head."""
        found = self._read(path)
        if found is None:
            return
        tensors, meta = found
        if meta["heads_done"] != self.heads_done or meta["head"] != list(head[:2]):
            return
        measured = tensors.pop("measured")
        self._epochs = [
            Epoch(loss, Measurement(nas, share))
            for loss, nas, share in zip(meta["losses"], measured, meta["yes_shares"], strict=True)
        ]
        self.tuner.restore_head(tensors, meta, epochs=len(self._epochs))

    def _read(self, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and metadata of a file; None if it is missing or its digest differs."""
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                said, text = (file.metadata() or {})[_META].split(" ", 1)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, ValueError):
            said, text, tensors = "", "", {}
        if said and said == tensor_digest(tensors, text):
            return tensors, json.loads(text)
        self._say(f"{path} is broken, so what it was about is done again.")
        return None


def _write(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    text = json.dumps(meta)
    write_tensors(path, tensors, {_META: f"{tensor_digest(tensors, text)} {text}"})
