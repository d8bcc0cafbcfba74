"""A LoRA adapter of PEFT in place of a model, and merging it into its base model.

PEFT computes the merged weights; added is only that nothing is left out without a word, as it does
with tensors that do not fit.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from nasalign.errors import ModelError, shortened
from nasalign.models.memory import is_out_of_memory

CONFIG, FILE = "adapter_config.json", "adapter_model.safetensors"
OURS = "nasalign"
"""The one key in the metadata of an adapter of ours: safetensors does not fix their order."""
_WRAPPED = re.compile(r"\.(modules_to_save|original_module|token_adapter|base_layer)(?=\.)")
"""What PEFT puts into the name of an embedding that it has wrapped."""


@dataclass(frozen=True)
class LoraAdapter:
    """A LoRA adapter of another tool, checked as far as it can be without its base model.

    Attributes:
        name: by which it was given.
        folder: with its configuration and its tensors.
        base: the model that its configuration names: a hub id or a local folder.
        revision: of a base on the hub, or None.
        shapes: of its tensors.
        tokenizer: whether it brings a tokenizer, which then replaces the base model's.
    """

    name: str
    folder: Path
    base: str
    revision: str | None
    shapes: dict[str, tuple[int, ...]]
    tokenizer: bool

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Say in an error about the base model who named it, and where that can be changed."""
        try:
            yield
        except ModelError as error:
            raise ModelError(
                f"{self.name!r} is a LoRA adapter for {self.base!r}, by its {CONFIG}. {error} If "
                "its base model is elsewhere, change base_model_name_or_path in that file."
            ) from error

    def refuse_options(self, quantize: str | None, trust_remote_code: bool) -> None:
        """Refuse options that do not fit a merge, before anything is loaded.

        Raises:
            ModelError: weights of few bits, which would round the change; or code of a model that
                the user has not named.
        """
        if quantize:
            raise self._refusal(
                "it is merged into whole weights; leave out --quantize, or save the merged model "
                "and name that"
            )
        if trust_remote_code:
            raise self._refusal(
                f"--trust-remote-code would run code of {self.base!r}, which you have not named; "
                "merge the adapter into it (PEFT's merge_and_unload, then save_pretrained) and "
                "name the result"
            )

    def merge_into(self, model: PreTrainedModel) -> PreTrainedModel:
        """Return the model with the adapter in its weights; changes the model.

        It is on the CPU still, unless it is spread, so that the fingerprint does not depend on the
        device that it goes to.

        Raises:
            ModelError: the adapter is for another model, or PEFT cannot merge it.
        """
        from peft import PeftConfig, PeftModel  # takes seconds

        mapping = getattr(model, "_checkpoint_conversion_mapping", {})  # as from_pretrained does
        try:
            self._resize(model)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of embeddings that were tied; weights are checked
                config = PeftConfig.from_pretrained(str(self.folder))
                wrapped = PeftModel(model, config)
                found = wrapped.load_adapter(
                    str(self.folder), "default", torch_device="cpu", key_mapping=mapping
                )
                unfit = [*found.missing_keys, *self._strangers(found.unexpected_keys)]
                if unfit:
                    raise ValueError(f"{len(unfit)} tensors do not fit, such as {unfit[0]}")
                merged: PreTrainedModel = wrapped.merge_and_unload()
        except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise self._refusal(
                f"it does not fit its base model {self.base!r} or cannot be merged: "
                f"{shortened(reason)}"
            ) from error
        merged.name_or_path = self.name
        return merged

    def _resize(self, model: PreTrainedModel) -> None:
        """Give the embeddings as many rows as the adapter brings, which replace all of them."""
        both = (model.get_input_embeddings(), model.get_output_embeddings())
        names = [name for name, module in model.named_modules() if module in both]
        plain = {_WRAPPED.sub("", key): shape[0] for key, shape in self.shapes.items()}
        brought = [plain.get(f"base_model.model.{name}.weight") for name in names]
        rows = next((one for one in brought if one), None)
        if rows is None or rows == len(both[0].weight):
            return
        if None in brought and not model.config.get_text_config().tie_word_embeddings:
            raise ValueError(f"of its two embeddings of {rows} rows, it holds only one")
        model.resize_token_embeddings(rows, mean_resizing=False)

    def _strangers(self, keys: list[str]) -> list[str]:
        """Tensors that PEFT has no place for, but for copies that it writes of embeddings."""
        return [key for key in keys if _WRAPPED.sub("", key) not in {*self.shapes} - {key}]

    def _refusal(self, reason: str) -> ModelError:
        return ModelError(f"The LoRA adapter {self.name!r} cannot be taken as a model: {reason}.")
