"""The plain loops that the fast ones are timed against: what one writes without this project.

The whole model runs on every batch, right-padded, on whole q and k weights whose gradients are
masked to the rows of the head; NAS comes from eager attention with ``output_attentions``.
"""

import random
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, get_cosine_schedule_with_warmup

from nasalign.config import Settings
from nasalign.head_rows.rows import head_slices
from nasalign.inference.batches import HasTokens
from nasalign.models.geometry import HeadGeometry
from nasalign.nas.heads import Head
from nasalign.nasa.algorithm import Measurement
from nasalign.nasa_plus.joint_tuning import JointTuner
from nasalign.prompts.builder import BinaryPrompt


class PlainTuner:
    """A ``HeadTuner`` with the optimiser, schedule and order of D of ``RowTuner``.

    Args:
        model: the model; its parameters must not require gradients.
        tuning: prompts of D.
        validation: prompts of V.
        settings: of the tuning.
        all_logits: compute the logits of all tokens, as a trainer does that is given labels.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tuning: list[BinaryPrompt],
        validation: list[BinaryPrompt],
        settings: Settings,
        all_logits: bool = False,
    ) -> None:
        self.model, self.settings, self.all_logits = model, settings, all_logits
        self.tuning, self.validation = tuning, validation

    def begin(self, head: Head) -> None:
        settings = self.settings
        slices = head_slices(HeadGeometry.of(self.model), head.layer, head.head, settings.k_scope)
        names = {where.module for where in slices}  # queries and keys may share a weight
        self.weights = {name: self.model.get_submodule(name).weight for name in sorted(names)}
        self.before = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self.frozen = {
            name: torch.ones(len(weight), dtype=torch.bool, device=weight.device)
            for name, weight in self.weights.items()
        }
        for where in slices:
            self.frozen[where.module][where.start : where.stop] = False
        self.optimizer = torch.optim.AdamW(
            self.weights.values(), lr=settings.learning_rate, weight_decay=0.0
        )
        steps = settings.epochs * -(-len(self.tuning) // settings.tuning_batch_size)
        warm_up = round(settings.warmup_ratio * steps)
        self.schedule = get_cosine_schedule_with_warmup(self.optimizer, warm_up, steps)
        self.order = random.Random(f"{settings.seed}/{head.layer}/{head.head}")

    def restore(self) -> None:
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(self.before[name])

    def scale(self, share: float) -> None:
        raise NotImplementedError("The plain loop has no line search.")

    def finish(self) -> None:
        del self.optimizer, self.schedule

    def train_epoch(self) -> float:
        shuffled = list(self.tuning)
        self.order.shuffle(shuffled)
        size, total = self.settings.tuning_batch_size, 0.0
        for weight in self.weights.values():
            weight.requires_grad_(True)
        for start in range(0, len(shuffled), size):
            batch = shuffled[start : start + size]
            ids, last = padded(batch, self.model.device)
            hidden = self.model.base_model(ids, use_cache=False).last_hidden_state
            embed = self.model.get_output_embeddings()
            rows = torch.arange(len(batch), device=ids.device)
            logits = embed(hidden)[rows, last] if self.all_logits else embed(hidden[rows, last])
            targets = torch.tensor([prompt.answers.target for prompt in batch], device=ids.device)
            loss = functional.cross_entropy(logits, targets)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for name, weight in self.weights.items():
                weight.grad[self.frozen[name]] = 0
            self.optimizer.step()
            self.schedule.step()
            total += float(loss.detach()) * len(batch)
        for weight in self.weights.values():
            weight.requires_grad_(False)
        return total / len(shuffled)

    @torch.no_grad()
    def measure(self) -> Measurement:
        """Single head NAS [L, H] of V by Eq. 1, and the share that is affirmed."""
        implementation = self.model.config._attn_implementation
        self.model.set_attn_implementation("eager")
        size, values, affirmed = self.settings.tuning_batch_size, [], 0
        for start in range(0, len(self.validation), size):
            batch = self.validation[start : start + size]
            ids, last = padded(batch, self.model.device)
            output = self.model.base_model(ids, use_cache=False, output_attentions=True)
            rows = torch.arange(len(batch), device=ids.device)
            hidden = output.last_hidden_state[rows, last]
            shares = self.model.get_output_embeddings()(hidden).float().softmax(dim=-1)
            for row, prompt in enumerate(batch):
                answers = prompt.answers
                positive = shares[row, list(answers.positive)].sum()
                affirmed += bool(positive > shares[row, list(answers.negative)].sum())
                pair = torch.stack([layer[row] for layer in output.attentions])  # [L, H, T, T]
                pair = pair[:, :, prompt.first_row : len(prompt.token_ids)]
                pair = pair[..., [prompt.positive_position, prompt.negative_position]].float()
                logs = pair.log()
                values.append((pair.sum(-1) * (logs[..., 1] - logs[..., 0])).sum(-1))
        self.model.set_attn_implementation(implementation)
        return Measurement(torch.stack(values).mean(dim=0).cpu(), affirmed / len(self.validation))


class PlainJointTuner(JointTuner):
    """``JointTuner`` whose batches run through the whole model, nothing shared or kept."""

    def _losses(self, parts: Sequence[list[int]], count: int) -> Iterator[Tensor]:
        """The mean loss of a whole batch; a plain loop has no parts."""
        (places,) = parts
        assert len(places) == count
        prompts = [p for place in places for p in self._pair(place)]
        said = self.log_probabilities(prompts, self.logits(prompts, [1] * len(prompts)))
        loss = self._loss_of(said.reshape(-1, 2, 2))
        if self.divergence:
            beside = [place % len(self.divergence.answers) for place in places[::2]]
            answers = [self.divergence.answers[place] for place in beside]
            after = self.logits(answers, [one.own for one in answers]).float().log_softmax(dim=-1)
            before = self.divergence.before(beside)
            loss = loss + self.settings.kl_weight * functional.kl_div(
                after, before, reduction="batchmean", log_target=True
            )
        yield loss

    def _pair(self, place: int) -> tuple[BinaryPrompt, BinaryPrompt]:
        pair = self.tuning[place]
        return pair.right, pair.wrong

    def logits(self, prompts: list[HasTokens], last: list[int]) -> Tensor:
        """Logits after the ``last`` tokens of each prompt, [their sum, vocabulary]."""
        ids, ends = padded(prompts, self.model.device)
        hidden = self.model.base_model(ids, use_cache=False).last_hidden_state
        rows = [
            hidden[row, end - count + 1 : end + 1]
            for row, (end, count) in enumerate(zip(ends.tolist(), last, strict=True))
        ]
        return self.model.get_output_embeddings()(torch.cat(rows))

    @staticmethod
    def log_probabilities(prompts: list[BinaryPrompt], logits: Tensor) -> Tensor:
        """log P(Yes) and log P(No), [B, 2]."""
        logits = logits.float()
        said = [
            torch.stack([row[list(one)].logsumexp(0) for one in (a.positive, a.negative)])
            for row, a in zip(logits, (prompt.answers for prompt in prompts), strict=True)
        ]
        return torch.stack(said) - logits.logsumexp(dim=-1, keepdim=True)


def padded(prompts: list[HasTokens], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids padded on the right, where causal attention never looks, and the last places."""
    rows = [torch.tensor(prompt.token_ids) for prompt in prompts]
    last = torch.tensor([len(row) - 1 for row in rows])
    return nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device), last.to(device)
