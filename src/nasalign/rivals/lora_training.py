"""A LoRA trained by TRL's trainer, on tokens as they are; importing this takes seconds.

The trainer decides what is done: order, batches, optimiser, schedule. Only how its loss comes about
is ours. TRL puts every token through the output embedding where it has no Triton, and each prompt's
instruction through the whole model; here only what follows what a batch has in common runs for each
sample, and only the last hidden state reaches the output embedding. The loss is the same.
"""

import copy
from collections.abc import Callable, Sequence
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from nasalign.config import Settings
from nasalign.inference.batches import halved
from nasalign.inference.forward import answer_logits
from nasalign.models.memory import explained
from nasalign.progress import Progress
from nasalign.prompts.builder import BinaryPrompt
from nasalign.rivals.rival import Material

RANK, ALPHA = 16, 32
BATCH_SIZE = 16
_NO_LOSS = -100


def train(
    material: Material,
    samples: Sequence[tuple[BinaryPrompt, int]],
    rate: float,
    epochs: int,
    after_epoch: Callable[[int, nn.Module], None],
    progress: Progress,
) -> None:
    """Trains a LoRA, by AdamW with warm-up and a cosine to zero; keeps nothing.

    Args:
        material: its model is left as it was, its settings give seed and warm-up.
        samples: prompts, each with the token that is to follow.
        rate: the highest learning rate.
        epochs: number of epochs.
        after_epoch: is given the number of the epoch and the model with the LoRA layers.
        progress: told of each batch.
    """
    with TemporaryDirectory() as folder:
        trainer = AnswerTrainer(
            model=_twin(material.model),
            args=_arguments(material.settings, rate, epochs, folder, material.model.device.type),
            train_dataset=Dataset.from_list([_row(*sample) for sample in samples]),
            processing_class=copy.deepcopy(material.tokenizer),  # TRL may set its padding token
            peft_config=_configuration(material.model),
            callbacks=[_Watch(len(samples), after_epoch, progress)],
        )
        trainer.prompts = {prompt.token_ids: prompt for prompt, _ in samples}
        trainer.remove_callback(PrinterCallback)
        with explained("training a LoRA", material.model):
            trainer.train()


class AnswerTrainer(SFTTrainer):
    """TRL's trainer, with the loss of the answer's token computed by the shortest way.

    Attributes:
        prompts: by their tokens; another sequence than theirs is never trained on.
        part: samples whose gradient is computed at a time; less where memory does not hold it.
        share: of the batch that is computed at the moment.
    """

    prompts: dict[tuple[int, ...], BinaryPrompt]
    part, share = BATCH_SIZE, 1.0

    def training_step(
        self,
        model: PeftModel,
        inputs: dict[str, Tensor],
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor:
        """Computes the gradient of a batch, over parts where memory does not hold the whole.

        Returns the mean loss; arguments as of the trainer.
        """
        size = len(inputs["input_ids"])
        losses: list[Tensor] = []
        step = super().training_step

        def work() -> None:
            model.zero_grad()
            losses.clear()
            for start in range(0, size, self.part):
                rows = {name: value[start : start + self.part] for name, value in inputs.items()}
                self.share = len(rows["input_ids"]) / size
                losses.append(step(model, rows, num_items_in_batch))

        while halved(work, min(self.part, size)):
            self.part = (min(self.part, size) + 1) // 2
        return torch.stack(losses).sum()

    def compute_loss(
        self,
        model: PeftModel,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor:
        """Returns the mean loss of B samples times ``share``; arguments as of the trainer."""
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        whole = [ids[:n] for ids, n in zip(inputs["input_ids"].tolist(), lengths, strict=True)]
        prompts = [self.prompts[tuple(ids[:-1])] for ids in whole]
        logits = answer_logits(model.get_base_model(), prompts)  # [B, vocabulary]
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        answers = torch.tensor([ids[-1] for ids in whole], device=logits.device)
        return functional.cross_entropy(logits, answers) * self.share


def _row(prompt: BinaryPrompt, answer: int) -> dict[str, list[int]]:
    """What TRL trains on: a prompt's tokens and its answer's, which alone has a loss."""
    masked = [_NO_LOSS] * len(prompt.token_ids)
    return {"input_ids": [*prompt.token_ids, answer], "labels": [*masked, answer]}


class _Watch(TrainerCallback):
    """Passes on what the trainer has done with N samples."""

    def __init__(
        self, samples: int, after_epoch: Callable[[int, nn.Module], None], progress: Progress
    ) -> None:
        self.samples, self.after_epoch, self.progress = samples, after_epoch, progress
        self.steps = -(-samples // BATCH_SIZE)  # an epoch

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        before = (state.global_step - 1) % self.steps * BATCH_SIZE
        self.progress(min(BATCH_SIZE, self.samples - before))

    def on_epoch_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.after_epoch(state.global_step // self.steps, others["model"].get_base_model())


def _configuration(model: PreTrainedModel) -> LoraConfig:
    """All linear modules but the output embedding; experts that are one tensor are not any."""
    targets = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not model.get_output_embeddings()
    }
    return LoraConfig(
        task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, target_modules=sorted(targets)
    )


def _arguments(settings: Settings, rate: float, epochs: int, folder: str, device: str) -> SFTConfig:
    """The trainer's settings; what is not named here is TRL's default."""
    arguments = SFTConfig(
        output_dir=folder,
        num_train_epochs=epochs,
        per_device_train_batch_size=BATCH_SIZE,
        learning_rate=rate,
        lr_scheduler_type="cosine",
        warmup_steps=settings.warmup_ratio,  # below 1 it is a share of all steps
        seed=settings.seed,
        data_seed=settings.seed,
        use_cpu=device == "cpu",
        bf16=False,  # no autocast: the model keeps its dtype, and LoRA is in float32
        gradient_checkpointing=False,
        router_aux_loss_coef=0.0,  # of a mixture of experts
        dataset_kwargs={"skip_prepare_dataset": True},  # these are tokens, and stay as they are
        max_length=None,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )
    arguments._n_gpu = 1  # TRL refuses the data parallelism that several visible GPUs switch on
    return arguments


def _twin(model: PreTrainedModel) -> PreTrainedModel:
    """A model with modules of its own over the same weights in memory.

    PEFT replaces modules, TRL the forward method, and the trainer changes the configuration and
    moves parameters between devices: all that happens to the twin.
    """
    shared: dict[int, Any] = {
        id(parameter): nn.Parameter(parameter.detach(), requires_grad=False)
        for parameter in model.parameters()
    }
    return copy.deepcopy(model, shared)
