"""Random samples in a padded batch, with the places of two words, and their NAS as recorded."""

import torch
from transformers import PreTrainedModel

from nasalign.nas.positions import Positions
from nasalign.nas.recorder import NasRecorder

LENGTHS = (26, 17, 21)
POSITIVE, NEGATIVE, FIRST_ROW = (3, 4, 2), (6, 5, 7), (9, 8, 10)


def batch(side: str) -> tuple[list[torch.Tensor], dict[str, torch.Tensor], Positions]:
    """Three random samples of unequal length, padded on one side, or one sample without padding."""
    generator = torch.Generator().manual_seed(1)
    lengths = LENGTHS[:1] if side == "none" else LENGTHS
    samples = [torch.randint(5, 500, (length,), generator=generator) for length in lengths]
    longest = max(lengths)
    ids, mask = torch.zeros(2, len(lengths), longest, dtype=torch.long)
    shift = torch.tensor([longest - n if side == "left" else 0 for n in lengths])
    for row, sample in enumerate(samples):
        place = slice(int(shift[row]), int(shift[row]) + len(sample))
        ids[row, place], mask[row, place] = sample, 1
    count = len(lengths)
    positions = Positions(
        positive=torch.tensor(POSITIVE[:count]) + shift,
        negative=torch.tensor(NEGATIVE[:count]) + shift,
        first_row=torch.tensor(FIRST_ROW[:count]) + shift,
        end_row=torch.tensor(lengths) + shift,
    )
    places = (mask.cumsum(dim=1) - 1).clamp(min=0)
    return samples, {"input_ids": ids, "attention_mask": mask, "position_ids": places}, positions


def record(
    model: PreTrainedModel, inputs: dict[str, torch.Tensor], positions: Positions
) -> torch.Tensor:
    with torch.no_grad(), NasRecorder(model) as recorder:
        recorder.expect(positions)
        model(**inputs)
        return recorder.nas
