"""The small files that stand beside a model's weights: of its processor, its tokenizer, its terms.

A checkpoint that is written anew needs them too, and transformers saves only what it has loaded.
They are found by what a folder holds, not by a list of names.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from nasalign.models.aliases import EMBEDDED_MODELS, is_on_hub, local_path
from nasalign.models.embedded import embedded_folder
from nasalign.models.lora_files import find_adapter
from nasalign.models.safety import LARGEST

_WEIGHTS = (
    *("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.gguf", "*.h5"),
    *("*.msgpack", "*.onnx", "*.onnx_data", "*.npz", "*.npy", "*.tflite", "*.index.json"),
)
_OF_TRAINING = (
    *("*.jsonl", "*.csv", "*.tsv", "*.parquet", "*.arrow", "*.log", "*.out", "*.ipynb"),
    *("trainer_*", "training_*", "*_results.json", "events.out.*", "optimizer*", "scheduler*"),
)
_TOKENIZER = (
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt"),
    *("*.model", "*.tiktoken", "tekken.json", "chat_template*", "additional_chat_templates"),
)
_WRITTEN_ANEW = ("README.md", "config.json", "adapter_config.json", ".gitattributes")
_CODE = ("*.py", "*.so", "*.sh")
_TERMS = ("license*", "licence*", "notice*", "copying*", "use_policy*", "acceptable_use*")
_TEMPLATES = "additional_chat_templates"


@dataclass
class Copied:
    """What was copied beside a checkpoint, and what was not.

    Attributes:
        names: of the copied files.
        left_out: why a file or a folder was not copied, by its name; weights are not listed.
    """

    names: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def copy_companions(name: str, target: Path, *, code: bool = False) -> Copied:
    """Copy the files beside a model's weights into a folder, but none that is there already.

    Args:
        name: the model, as ``load`` takes it; of a LoRA adapter first its own files, then those of
            its base model. Of a GGUF file only its terms, as the folder may hold anything else.
        target: where the model and its tokenizer were saved.
        code: copy Python code too.
    """
    copied = Copied()
    adapter = find_adapter(name, offline=True)
    own_tokenizer = bool(adapter and adapter.tokenizer)
    for source in (name, adapter.base) if adapter else (name,):
        folder = _folder(source, copied)
        for path in sorted(folder.iterdir()) if folder else []:
            if source.endswith(".gguf") and not _fits(path.name.lower(), _TERMS):
                continue
            if own_tokenizer and source != name and _fits(path.name, _TOKENIZER):
                continue  # the tokenizer is the adapter's
            _copy(path, target, copied, code)
    return copied


def _folder(name: str, copied: Copied) -> Path | None:
    """The folder of a model; of a hub id the one in the cache, completed if the hub answers."""
    if name in EMBEDDED_MODELS:
        return embedded_folder(name)
    if not is_on_hub(name):
        path = local_path(name)
        return path.parent if path.suffix == ".gguf" else path
    unwanted = [*_WEIGHTS, *_OF_TRAINING, "*/*"]
    try:
        return Path(snapshot_download(name, ignore_patterns=unwanted))
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        copied.left_out[name] = f"its small files cannot be fetched: {reason}"
        return None


def _copy(path: Path, target: Path, copied: Copied, code: bool) -> None:
    """Copy one file, or note why not; files that were written anew and weights are passed over."""
    name = path.name
    if _fits(name, _WEIGHTS + _WRITTEN_ANEW) or (target / name).is_file():
        return
    if path.is_dir() and not path.is_symlink() and name == _TEMPLATES:
        for one in sorted(path.glob("*.jinja")):
            if not one.is_symlink() and not (target / name / one.name).exists():
                (target / name).mkdir(exist_ok=True)
                shutil.copyfile(one, target / name / one.name)
                copied.names.append(f"{name}/{one.name}")
        return
    why = next(_reasons(path, target, code), "")
    if why:
        copied.left_out[name] = why
        return
    shutil.copyfile(path, target / name)
    copied.names.append(name)


def _reasons(path: Path, target: Path, code: bool) -> Iterator[str]:
    """Why a file is not copied; none for one that is."""
    if path.is_symlink() and not _in_cache(path):
        yield "a link"
    elif path.is_dir():
        yield "a folder"
    elif not path.is_file():
        yield "no regular file"
    elif path.name.startswith("."):
        yield "hidden"
    elif _fits(path.name, _CODE) and not (code and path.suffix == ".py"):
        yield "code"
    elif _fits(path.name, _OF_TRAINING):
        yield "data or a log of training"
    elif path.stat().st_size > LARGEST:
        yield f"more than {LARGEST // 2**20} MiB"
    elif path.name == "chat_template.json" and (target / _TEMPLATES).is_dir():
        yield f"transformers refuses it beside {_TEMPLATES}"


def _in_cache(path: Path) -> bool:
    """Whether a link is one of the hub's cache: from a snapshot to the blobs beside it."""
    snapshot = path.parent.resolve()
    blobs = snapshot.parent.parent / "blobs"
    return snapshot.parent.name == "snapshots" and path.resolve().parent == blobs


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
