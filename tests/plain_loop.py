"""Algorithm 1's training and measuring as one would write it first: literal and slow.

The whole model runs on every batch, left-padded, without any sharing; the whole q and k weights are
parameters whose gradient is masked to the head's rows; NAS comes from the attention matrices of
eager attention, prompt by prompt. It shares with ``src`` what decides the order of the samples.
"""

import copy
import random
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, get_cosine_schedule_with_warmup

import reference
from nasalign.config import Settings
from nasalign.nas.heads import Head
from nasalign.nasa.algorithm import Measurement
from nasalign.prompts.builder import BinaryPrompt


class PlainTuner:
    """A ``HeadTuner`` for a model with ``q_proj`` and ``k_proj`` apart."""

    def __init__(
        self,
        model: PreTrainedModel,
        tuning: Sequence[BinaryPrompt],
        validation: Sequence[BinaryPrompt],
        settings: Settings,
    ) -> None:
        self.model, self.settings = model, settings
        self.tuning, self.validation = tuning, validation

    @torch.no_grad()
    def measure(self) -> Measurement:
        model, nas, yes = copy.deepcopy(self.model).double(), [], 0
        for prompt in self.validation:
            ids = torch.tensor(prompt.token_ids)
            places = (prompt.positive_position, prompt.negative_position, prompt.first_row)
            nas.append(reference.nas_of_sample(model, ids, *places))
            logits = model(ids[None]).logits[0, -1]
            shares = logits.softmax(dim=-1)
            answers = prompt.answers
            yes += bool(shares[list(answers.positive)].sum() > shares[list(answers.negative)].sum())
        return Measurement(torch.stack(nas).mean(dim=0), yes / len(self.validation))

    def begin(self, head: Head) -> None:
        config = self.model.config
        attention = self.model.model.layers[head.layer].self_attn
        size = attention.head_dim
        group = head.head // (config.num_attention_heads // config.num_key_value_heads)
        self.weights = {attention.q_proj.weight: head.head, attention.k_proj.weight: group}
        self.masks = {}
        for weight, place in self.weights.items():
            self.masks[weight] = torch.zeros_like(weight)
            self.masks[weight][place * size : (place + 1) * size] = 1
        self.before = {weight: weight.detach().clone() for weight in self.weights}
        settings = self.settings
        self.optimizer = torch.optim.AdamW(self.weights, lr=settings.learning_rate, weight_decay=0)
        steps = settings.epochs * -(-len(self.tuning) // settings.tuning_batch_size)
        warmup = round(settings.warmup_ratio * steps)
        self.schedule = get_cosine_schedule_with_warmup(self.optimizer, warmup, steps)
        self.order = random.Random(f"{settings.seed}/{head.layer}/{head.head}")

    def train_epoch(self) -> float:
        places = list(range(len(self.tuning)))
        self.order.shuffle(places)
        total, size = 0.0, self.settings.tuning_batch_size
        for weight in self.weights:
            weight.requires_grad_(True)
        for start in range(0, len(places), size):
            batch = [self.tuning[place] for place in places[start : start + size]]
            loss = self._loss(batch)
            self.optimizer.zero_grad()
            loss.backward()
            for weight, mask in self.masks.items():
                assert weight.grad is not None
                weight.grad *= mask
            self.optimizer.step()
            self.schedule.step()
            total += float(loss.detach()) * len(batch)
        for weight in self.weights:
            weight.requires_grad_(False)
        return total / len(places)

    def _loss(self, batch: list[BinaryPrompt]) -> torch.Tensor:
        longest = max(len(prompt.token_ids) for prompt in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(batch):
            ids[row, longest - len(prompt.token_ids) :] = torch.tensor(prompt.token_ids)
            mask[row, longest - len(prompt.token_ids) :] = 1
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        output = self.model(input_ids=ids, attention_mask=mask, position_ids=positions)
        targets = torch.tensor([prompt.answers.target for prompt in batch])
        return torch.nn.functional.cross_entropy(output.logits[:, -1], targets)

    @torch.no_grad()
    def restore(self) -> None:
        for weight, old in self.before.items():
            weight.copy_(old)

    def finish(self) -> None:
        for weight in self.weights:
            weight.grad = None
