"""The plain loop of ``benchmarks``, with NAS from the reference: in float64, prompt by prompt."""

import copy

import torch

import plain_loops
import reference
from nasalign.nasa.algorithm import Measurement


class PlainTuner(plain_loops.PlainTuner):
    """A ``HeadTuner`` that is literal and slow."""

    @torch.no_grad()
    def measure(self) -> Measurement:
        model, nas, yes = copy.deepcopy(self.model).double(), [], 0
        for prompt in self.validation:
            ids = torch.tensor(prompt.token_ids)
            places = (prompt.positive_position, prompt.negative_position, prompt.first_row)
            nas.append(reference.nas_of_sample(model, ids, *places))
            shares = model(ids[None]).logits[0, -1].softmax(dim=-1)
            positive, negative = list(prompt.answers.positive), list(prompt.answers.negative)
            yes += bool(shares[positive].sum() > shares[negative].sum())
        return Measurement(torch.stack(nas).mean(dim=0), yes / len(self.validation))
