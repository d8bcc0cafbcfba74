"""Many prompts scored in batches of packed rows, after a prefix that all of them share.

A row holds prompts that share more than the prefix, such as the question with a right and with a
wrong answer. The rows of Eq. 1 that lie in the prefix, such as those of examples, run once too:
all prompts have the same NAS there.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nasalign.inference.batches import CPU_TOKENS, halved, halves, in_batches, sorted_batches
from nasalign.inference.forward import prefix_worth_sharing
from nasalign.inference.packed import in_a_row, pack_logits, packs_exactly, rows_of
from nasalign.inference.prefix import alike, common_beginning, prefix_cache, shared_prefix
from nasalign.models import processes
from nasalign.models.memory import explained
from nasalign.nas.positions import PackedPositions, Positions
from nasalign.nas.recorder import NasRecorder
from nasalign.progress import Progress
from nasalign.prompts.builder import BinaryPrompt

ROW_TOKENS = 192
"""Tokens of a row after the prefix: more are compared with each other in vain."""
ROW_PROMPTS = 64
"""Prompts of a row at most: each has logits of the size of the vocabulary."""
PADDING = 256
"""Padding of a batch of rows at most, in tokens."""
LEAST_SHARE = 0.1
"""Share of the tokens that packing must save, beside what trying it out costs."""
TRIED_OUT = 8
"""Prompts that run while it is tried out, at most."""


class PromptRow:
    """Prompts that are scored in one row.

    Args:
        prompts: all prompts.
        members: the indices of those in the row.

    Attributes:
        pack: their tokens.
    """

    def __init__(self, prompts: Sequence[BinaryPrompt], members: list[int]) -> None:
        self.members, self.pack = members, in_a_row([prompts[index] for index in members])

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The tokens of the row."""
        return self.pack.token_ids


class PackedBatches:
    """Scores prompts in rows.

    Args:
        model: the model.
        prompts: which share what Eq. 1 reads first, if they are to be recorded.
        prefix: number P of leading tokens that all of them share, and that run once a batch.

    Attributes:
        rows: each prompt is in one of them.
    """

    def __init__(
        self, model: PreTrainedModel, prompts: Sequence[BinaryPrompt], prefix: int
    ) -> None:
        self.model, self.prompts, self.prefix = model, prompts, prefix
        self.rows = prompt_rows(prompts, prefix)

    @property
    def tokens(self) -> int:
        """Number of tokens that run, but for the prefix."""
        return sum(len(row.token_ids) - self.prefix for row in self.rows)

    def run(
        self,
        work: Callable[[list[PromptRow], list[int]], None],
        progress: Progress | None = None,
        *,
        doing: str,
    ) -> None:
        """Call ``work`` with the rows of each batch, and the indices of their prompts.

        A batch that does not fit in memory is halved, and a row that does not fit too. The progress
        counts prompts.
        """

        def work_on(rows: list[PromptRow]) -> None:
            members = [index for row in rows for index in row.members]
            if len(rows) > 1:  # whose halves are of fewer rows
                work(rows, members)
                return
            with explained(doing, self.model, len(rows[0].token_ids)):
                again = halved(partial(work, rows, members), len(members))
            for half in halves(members) if again else ():
                work_on([PromptRow(self.prompts, half)])

        def work_at(places: list[int]) -> None:
            rows = [self.rows[place] for place in places]
            work_on(rows)
            if progress:
                progress(sum(len(row.members) for row in rows) * processes.shares())

        in_batches(self.model, self.rows, None, work_at, doing=doing, padding=PADDING)

    def logits(self, rows: Sequence[PromptRow], recorder: NasRecorder | None = None) -> Tensor:
        """Return the logits [N, vocabulary] after the prompts of some rows, row by row.

        An entered recorder records the NAS of these prompts.
        """
        first = [self.prompts[row.members[0]] for row in rows]
        before = torch.zeros(())
        try:
            if recorder is not None and first[0].first_row < self.prefix:
                recorder.expect(_in_prefix(first[0], self.prefix))
            cache = prefix_cache(self.model, first, self.prefix) if self.prefix else None
            if recorder is not None:
                if recorder.expecting:
                    before = recorder.nas
                recorder.expect(self._positions(rows))
            packs = [row.pack for row in rows]
            logits = pack_logits(self.model, packs, None, cache, self.prefix)
            if recorder is not None:
                recorder.nas = recorder.nas + before
            return logits
        finally:  # if memory runs out, the next pass is of other prompts
            if recorder is not None:
                recorder.expect(None)

    def ends(self, rows: Sequence[PromptRow]) -> tuple[Tensor, Tensor]:
        """Return where the last tokens of the prompts of some rows are in their pass.

        Both are int64 [N]: the row, and the place in it after the prefix.
        """
        packs = [row.pack for row in rows]
        last = torch.stack([path[-1] for pack in packs for path in pack.paths])
        return rows_of(packs), last - self.prefix

    def _positions(self, rows: Sequence[PromptRow]) -> PackedPositions:
        """Where Eq. 1 reads the prompts of some rows, after the prefix."""
        first = [self.prompts[row.members[0]] for row in rows]
        members = [self.prompts[index] for row in rows for index in row.members]
        packs = [row.pack for row in rows]
        paths = [path for pack in packs for path in pack.paths]
        width = max(len(pack.token_ids) for pack in packs)
        inside = torch.zeros(len(paths), width, dtype=torch.bool)
        for number, (prompt, path) in enumerate(zip(members, paths, strict=True)):
            inside[number, path[max(self.prefix, prompt.first_row) :]] = True
        return PackedPositions(
            positive=torch.tensor([prompt.positive_position for prompt in first]),
            negative=torch.tensor([prompt.negative_position for prompt in first]),
            row=rows_of(packs),
            inside=inside,
        )


def packed_batches(
    model: PreTrainedModel, prompts: Sequence[BinaryPrompt], record: bool
) -> PackedBatches | None:
    """Return what scores prompts in rows, where that is faster than one by one, and as exact.

    On an accelerator it is not measured, so not done. All processes do the same.
    """
    if model.device.type != "cpu" or len(prompts) < 2:
        return None
    common = common_beginning(prompts)
    if record and not _alike_to_eq_1(prompts, common):
        return None
    batches = PackedBatches(model, prompts, common)
    tried_out = TRIED_OUT * max(len(prompt.token_ids) for prompt in prompts)
    with processes.alone():  # all prompts count, also those of other processes
        one_by_one = _tokens_one_by_one(prompts)
    if batches.tokens + tried_out > (1 - LEAST_SHARE) * one_by_one:
        return None
    return batches if processes.agreed(_exact(model, prompts, common)) else None


def _exact(model: PreTrainedModel, prompts: Sequence[BinaryPrompt], prefix: int) -> bool:
    """Whether rows after a prefix give what whole prompts give; False if memory runs out."""
    found: list[bool] = []

    def try_out() -> None:
        shares = prefix_worth_sharing(model, prompts, prefix) == prefix
        found.append(shares and packs_exactly(model, prompts, CPU_TOKENS))

    return not halved(try_out, len(prompts)) and found[0]


def prompt_rows(prompts: Sequence[BinaryPrompt], prefix: int) -> list[PromptRow]:
    """Put prompts in rows, in which what they share after a prefix runs once.

    A prompt joins the row of the one before it in lexicographic order, with which it shares the
    most, while the row has room. One that saves more tokens than it adds joins a longer row too.
    """
    rows: list[list[int]] = []
    before: tuple[int, ...] = ()
    size = 0  # of the last row, in tokens
    for index in sorted(range(len(prompts)), key=lambda index: prompts[index].token_ids):
        own = prompts[index].token_ids
        shared = alike(before, own)
        new = len(own) - shared
        room = CPU_TOKENS if shared - prefix > new else ROW_TOKENS + prefix
        if rows and size + new <= room and len(rows[-1]) < ROW_PROMPTS:
            rows[-1].append(index)
            size += new
        else:
            rows.append([index])
            size = len(own)
        before = own
    return [PromptRow(prompts, members) for members in rows]


def _alike_to_eq_1(prompts: Sequence[BinaryPrompt], common: int) -> bool:
    """Whether all prompts have the words in what they share, and the first row of the sum."""
    first = prompts[0]
    places = (first.positive_position, first.negative_position, first.first_row)
    return max(places[:2]) < common and all(
        (one.positive_position, one.negative_position, one.first_row) == places for one in prompts
    )


def _tokens_one_by_one(prompts: Sequence[BinaryPrompt]) -> int:
    """Number of tokens that batches of whole prompts run, but for what each batch shares."""
    total = 0
    for batch in sorted_batches(prompts, None):
        own = [prompts[index] for index in batch]
        longest = max(len(one.token_ids) for one in own)
        total += len(own) * (longest - shared_prefix(own))
    return total


def _in_prefix(prompt: BinaryPrompt, prefix: int) -> Positions:
    """The rows of Eq. 1 in the prefix."""
    return Positions(
        positive=torch.tensor([prompt.positive_position]),
        negative=torch.tensor([prompt.negative_position]),
        first_row=torch.tensor([prompt.first_row]),
        end_row=torch.tensor([prefix]),
    )
