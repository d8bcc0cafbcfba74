"""What a card says of the base model: its id on the hub, its license, how it is loaded."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml  # type: ignore[import-untyped]
from huggingface_hub import ModelCard, try_to_load_from_cache

from nasalign.models.aliases import EMBEDDED_MODELS
from nasalign.models.lora_files import find_adapter
from nasalign.models.names import hub_id, public_name


@dataclass(frozen=True)
class Base:
    """A base model; a folder on the machine is known by its last name alone.

    Attributes:
        title: how it is called.
        hub: its id on the hub, or None.
        place: what ``from_pretrained`` takes.
        gguf: the file's name if it is one.
        license: ``license``, ``license_name`` and ``license_link``, as far as they are known.
        note: what a user should know of it.
        into: where this is a LoRA adapter, the model into which it was merged.
        tokenizer: whether it brings a tokenizer.
    """

    title: str
    hub: str | None
    place: str
    gguf: str = ""
    license: dict[str, str] = field(default_factory=dict)
    note: str = ""
    into: "Base | None" = None
    tokenizer: bool = True

    @classmethod
    def of(cls, name: str) -> "Base":
        """Return the base model of a name by which it is loaded; ask no network."""
        lora = find_adapter(name, offline=True)
        if lora is None:
            return cls._of_model(name)
        itself, into = cls._of_model(name), cls._of_model(lora.base)
        note = (
            f"The base of the run was a LoRA adapter, {itself.title}, merged into {into.title} by "
            "PEFT."
        )
        licensed = itself.license or into.license
        return replace(itself, license=licensed, note=note, into=into, tokenizer=lora.tokenizer)

    @classmethod
    def _of_model(cls, name: str) -> "Base":
        title, hub = public_name(name), hub_id(name)
        if name in EMBEDDED_MODELS:
            note = (
                "The base of the run were the weights of a 4-bit GGUF file of this model, "
                "dequantised; with the weights on the hub, the figures differ a little."
            )
            license_id = EMBEDDED_MODELS[name].license
            return cls(title, hub, title, license={"license": license_id}, note=note)
        if hub:
            cached = try_to_load_from_cache(hub, "README.md")
            known = _license(Path(cached)) if isinstance(cached, str) else {}
            return cls(hub, hub, hub, license=known)
        path = Path(name)
        if path.suffix == ".gguf":
            return cls(title, None, path.parent.name or ".", title)
        return cls(title, None, title, license=_license(path / "README.md"))


def _license(card: Path) -> dict[str, str]:
    """What a model's card says of its license; nothing if there is no card that can be read."""
    try:
        data = ModelCard.load(card, ignore_metadata_errors=True).data
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    names = ("license", "license_name", "license_link")
    values = {name: data.get(name) for name in names}
    return {name: value for name, value in values.items() if isinstance(value, str)}
