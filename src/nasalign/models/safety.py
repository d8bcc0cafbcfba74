"""What a model's folder may hold: weights in a format that runs no code, and nothing from beside.

A pickle, which ``pytorch_model.bin`` and its like are, runs code as it is read.
"""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from nasalign.errors import ModelError, shortened

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_INDEX = "model.safetensors.index.json"
CONVERT = (
    "Only safetensors are read, since a pickle can run code. Convert it where you trust it: load "
    "it with transformers and save_pretrained(FOLDER), or take a conversion from the hub."
)


def check_folder(folder: Path) -> None:
    """Refuses a folder whose weights would be read from a pickle, an adapter or another folder.

    Raises:
        ModelError: says what is there, and what to do.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"The folder {folder} holds no config.json, so it is not a model.")
    if (folder / "adapter_config.json").exists():  # transformers would load another base model
        raise ModelError(is_adapter(str(folder)))
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
        if pickles:
            raise ModelError(f"The folder {folder} holds its weights as {pickles[0]}. {CONVERT}")
        raise ModelError(
            f"The folder {folder} holds no weights (*.safetensors); other formats are not read."
        )
    if (folder / _INDEX).exists():
        _check_index(folder / _INDEX)


def _check_index(path: Path) -> None:
    """Refuses an index of shards that names anything but safetensors of its folder."""
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


def own_code(name: str) -> str:
    """Returns the sentence on a model that cannot be had without its own code."""
    return (
        f"The model {name!r} brings Python code of its own, which is not run; if you have read "
        "that code and trust it, give --trust-remote-code."
    )


def is_adapter(name: str) -> str:
    """Returns the sentence on an adapter where a model is asked for."""
    return (
        f"{name!r} holds an adapter_config.json, so it is an adapter and no model. Name its base "
        "model, and with --adapter the adapter if align made it; merge any other into its base "
        "(PEFT's merge_and_unload, then save_pretrained) and name the result."
    )
