"""A LoRA adapter of PEFT in place of a model: it is found, checked, and merged into its base.

PEFT computes the merged weights; here is only what it would do without a word: read a pickle,
import a module that a configuration names, or leave out tensors that do not fit.
"""

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel
from transformers.utils import cached_file

from nasalign.errors import ModelError, shortened
from nasalign.models.checkpoints import is_on_hub, local_path
from nasalign.models.memory import is_out_of_memory
from nasalign.models.safety import check_sizes

CONFIG, FILE = "adapter_config.json", "adapter_model.safetensors"
OURS = "nasalign"
"""The one key in the metadata of an adapter of ours: safetensors does not fix their order."""
_NOT_MERGED = {
    "megatron_config": "it imports a module that it names",
    "layer_replication": "it repeats layers",
    "alora_invocation_tokens": "it acts on some tokens alone",
    "arrow_config": "it chooses among several adapters for each token",
}
_WRAPPED = re.compile(r"\.(modules_to_save|original_module|token_adapter|base_layer)(?=\.)")
"""What PEFT puts into the name of an embedding that it has wrapped."""
_MODEL_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "*.gguf")


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

        On the CPU, so that the sums and with them the fingerprint are the same whatever device
        the model goes to.

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


def find_adapter(
    name: str, *, revision: str | None = None, offline: bool = False
) -> LoraAdapter | None:
    """Return the adapter that a name stands for; None if it has no ``adapter_config.json``.

    Args:
        name: as ``load`` takes it.
        revision: of a hub id.
        offline: look only into the hub's cache.

    Raises:
        ModelError: it is no LoRA, is incomplete, is a pickle, holds a model too, or nasalign wrote
            it, which takes it by ``--adapter``.
    """
    folder = local_path(name)
    if not (is_on_hub(name) or folder.is_dir()):
        return None
    place = str(folder) if folder.is_dir() else name
    found = partial(_file, place, revision, offline)
    config_path = found(CONFIG)
    if config_path is None:
        return None
    if folder.is_dir():
        check_sizes(folder)
    if _holds_a_model(folder) if folder.is_dir() else found("config.json"):
        raise ModelError(
            f"{name!r} holds an {CONFIG} beside a model, so it is not clear which of the two is "
            "meant; name a folder that holds the model or the adapter alone."
        )
    config = _read_config(name, config_path)
    path = found(FILE)
    if path is None:
        raise ModelError(
            f"{name!r} is an adapter by its {CONFIG}, but has no {FILE}, and only safetensors are "
            "read: a pickle (adapter_model.bin) can run code. Load it where you trust it, and save "
            "it by PEFT's save_pretrained, which writes safetensors."
        )
    base, tokenizer = str(config["base_model_name_or_path"]), found("tokenizer_config.json")
    shapes = _shapes(name, path, config)
    return LoraAdapter(name, path.parent, base, config.get("revision"), shapes, bool(tokenizer))


def _file(place: str, revision: str | None, offline: bool, name: str) -> Path | None:
    """A file of a folder or a hub id, fetched if need be; None if it has none."""
    found = cached_file(
        place,
        name,
        revision=revision,
        local_files_only=offline,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return Path(found) if found else None


def _holds_a_model(folder: Path) -> bool:
    """Whether there are a model's weights; trainers leave its config.json beside an adapter."""
    return any(any(folder.glob(pattern)) for pattern in _MODEL_WEIGHTS)


def _read_config(name: str, path: Path) -> dict[str, Any]:
    """The configuration of an adapter that PEFT can merge without a module from elsewhere."""
    try:
        config = json.loads(path.read_bytes())
        kind, base = config.get("peft_type"), config.get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} is broken; get the adapter anew.") from error
    if kind != "LORA":
        raise ModelError(
            f"{name!r} is an adapter of the kind {shortened(str(kind))}, and only LoRA is merged; "
            "merge it by PEFT, if it can be, and name the result."
        )
    if not isinstance(base, str) or not base.strip():
        raise ModelError(
            f"{name!r} is a LoRA adapter whose {CONFIG} does not say for which model; write that "
            "as base_model_name_or_path."
        )
    for key, why in _NOT_MERGED.items():
        if config.get(key):
            raise ModelError(f"The LoRA adapter {name!r} cannot be merged: {why} ({key}).")
    return dict(config)


def _shapes(name: str, path: Path, config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors; no rank of the configuration is larger than any of them."""
    try:
        with safe_open(path, framework="pt") as file:
            ours = OURS in (file.metadata() or {})
            names = file.keys()
            shapes = {one: tuple(file.get_slice(one).get_shape()) for one in names}
    except (SafetensorError, OSError) as error:
        reason = shortened(" ".join(str(error).split()))
        raise ModelError(f"The adapter {path} is broken and cannot be read: {reason}.") from error
    if ours:
        raise ModelError(
            f"{name!r} is an adapter that align made; name its base model, and the adapter with "
            "--adapter."
        )
    ranks = [config.get("r", 8), *(config.get("rank_pattern") or {}).values()]
    largest = max((size for shape in shapes.values() for size in shape), default=0)
    if not all(type(rank) is int and 0 < rank <= largest for rank in ranks):
        raise ModelError(
            f"The LoRA adapter {name!r} is broken: by its {CONFIG} its rank is "
            f"{shortened(str(max(ranks, key=str)))}, and its largest tensor has {largest} rows."
        )
    return shapes
