"""Checks of a model's folder before anything of it is loaded.

A pickle (``pytorch_model.bin``) can run code when it is read, so only safetensors are. The numbers
of a configuration are checked before lists, modules and weights of that size are made.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from nasalign.errors import ModelError, shortened

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_INDEX = "model.safetensors.index.json"
_READ_WHOLE = (
    *("*config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*"),
    *("merges.txt", "*.model", "chat_template*", _INDEX),
)
LARGEST = 100 * 2**20
"""Bytes of a file that is read into memory; the largest tokenizers have a third of that."""
_LIMITS = (  # the first pattern that fits a name counts
    (re.compile(r"(?:n|num)_.*(?:layers?|blocks?)|.*_replace"), 1000),
    (re.compile(r"num_labels"), 100_000),
    (re.compile(r"(?:n|num)_.*|.*_size|head_dim"), 20_000_000),
)
"""The highest counts that a configuration may have: far more than any model has."""
CONVERT = (
    "Only safetensors are read, since a pickle can run code. Convert it where you trust it: load "
    "it with transformers and save_pretrained(FOLDER), or take a conversion from the hub."
)


def check_model_folder(folder: Path) -> None:
    """Refuse a folder whose weights would be read from a pickle, an adapter or another folder."""
    if (folder / "adapter_config.json").exists():  # transformers would load another base model
        raise ModelError(is_adapter(str(folder)))
    if not (folder / "config.json").is_file():
        raise ModelError(f"The folder {folder} holds no config.json, so it is not a model.")
    check_sizes(folder)
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
        if pickles:
            raise ModelError(f"The folder {folder} holds its weights as {pickles[0]}. {CONVERT}")
        raise ModelError(
            f"The folder {folder} holds no weights (*.safetensors); other formats are not read."
        )
    if (folder / _INDEX).exists():
        _check_index(folder / _INDEX)


def check_sizes(folder: Path) -> None:
    """Refuse a folder with a file that is read into memory and is too large for that."""
    for path in sorted({path for pattern in _READ_WHOLE for path in folder.glob(pattern)}):
        if path.is_file() and path.stat().st_size > LARGEST:
            raise ModelError(
                f"{path} has {path.stat().st_size / 2**20:,.0f} MiB, where at most "
                f"{LARGEST // 2**20} are read; get it anew."
            )


def _check_index(path: Path) -> None:
    """Refuse an index of shards that names anything but safetensors of its folder."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        shards = {str(shard) for shard in content["weight_map"].values()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} does not say in which file each weight is.") from error
    for shard in sorted(shards):
        if PurePosixPath(shard).name != shard or "\\" in shard:
            raise ModelError(f"{path} names {shortened(shard)}, which is outside the folder.")
        if not shard.endswith(".safetensors"):
            raise ModelError(f"{path} names {shortened(shard)}. {CONVERT}")


def check_counts(config: dict[str, Any], name: str) -> None:
    """Refuse a configuration, nested parts included, that counts more than any model has."""
    for key, number in _numbers(config):
        most = next((most for pattern, most in _LIMITS if pattern.fullmatch(key)), number)
        if number > most:
            raise ModelError(
                f"The configuration of {name!r} says {key} = {shortened(str(number))[1:-1]}, where "
                f"{most:,} is more than any model has; get it anew."
            )


def _numbers(config: Any) -> Iterator[tuple[str, int]]:
    """Whole numbers of a configuration with their names, at every depth."""
    if isinstance(config, list):
        for part in config:
            yield from _numbers(part)
    if isinstance(config, dict):
        for key, value in config.items():
            if isinstance(value, int):
                yield str(key), value
            yield from _numbers(value)


def check_size(place: Path, parameters: int, packed: bool) -> None:
    """Refuse weights too small for the configuration beside them, before memory is taken.

    ``place`` is a folder or a GGUF file. If ``packed``, a byte may hold up to eight parameters.
    """
    files = [place] if place.is_file() else list(place.glob("*.safetensors"))
    size = sum(path.stat().st_size for path in files)
    if files and parameters > size * (8 if packed else 1):
        raise ModelError(
            f"The model {str(place)!r} cannot be loaded: by its configuration it has "
            f"{parameters:,} parameters, which the {size:,} bytes of its weights cannot hold; one "
            "of the two is of another model."
        )


def own_code(name: str) -> str:
    """Return the message for a model that needs Python code of its own."""
    return (
        f"The model {name!r} brings Python code of its own, which is not run; if you have read "
        "that code and trust it, give --trust-remote-code."
    )


def is_adapter(name: str) -> str:
    """Return the message for an adapter where a model is expected."""
    return (
        f"{name!r} holds an adapter_config.json, so it is an adapter and no model. Merge it into "
        "its base model (PEFT's merge_and_unload, then save_pretrained) and name the result."
    )
