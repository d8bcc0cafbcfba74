"""From a wheel in an empty environment to a corrected model that plain PEFT loads.

    python benchmarks/wheel_check.py [--extras plots] [--pipx]

Builds the wheel, installs it in a virtual environment of its own with the pinned versions (by pipx
with --pipx), and runs doctor, align, report and export as a stranger would; at last the adapter and
the merged model are loaded in a process that does not know nasalign, and must agree. Ends with 1 at
the first step that fails.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
ALIGN = ["probing_questions=120", "evaluation_questions=40", "k=8", "epochs=3"]
ALIGN += ["side_effect_questions=10", "bootstrap_samples=200"]
WHERE = """
from nasalign.models.embedded import embedded_folder

print(embedded_folder("smollm2-135m"))
"""
RELOAD = """
import sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

base, adapter, merged = sys.argv[1:]
ids = torch.arange(100, 164)[None]
with torch.no_grad():
    untouched = AutoModelForCausalLM.from_pretrained(base).eval()
    before = untouched(ids).logits
    tuned = PeftModel.from_pretrained(untouched, adapter)(ids).logits
    whole = AutoModelForCausalLM.from_pretrained(merged).eval()(ids).logits
apart, moved = (tuned - whole).abs().max().item(), (tuned - before).abs().max().item()
print(f"PEFT and merged differ by {apart:.1e}; both differ from the untouched by {moved:.1e}")
assert "nasalign" not in sys.modules
assert apart < 1e-3 < moved
"""


def step(title: str, command: list[str], folder: Path, **environment: str) -> str:
    """Runs a step, prints its outcome, and returns what it wrote; ends all if it fails."""
    start = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    outcome = "ok" if done.returncode == 0 else f"ended with {done.returncode}"
    print(f"{title}: {outcome}, {time.perf_counter() - start:.0f} s", flush=True)
    if done.returncode != 0:
        print(done.stdout[-4000:])
        raise SystemExit(1)
    return done.stdout


def installed(folder: Path, extras: str, by_pipx: bool) -> Path:
    """Builds and installs the wheel; returns the folder of its commands."""
    build = "import sys; from hatchling import build; build.build_wheel(sys.argv[1])"
    step("build the wheel", [sys.executable, "-P", "-c", build, str(folder / "dist")], ROOT)
    (wheel,) = (folder / "dist").glob("*.whl")
    wanted, pins = f"{wheel}[{extras}]" if extras else str(wheel), str(ROOT / "constraints.txt")
    step("make an environment", [sys.executable, "-P", "-m", "venv", str(folder / "venv")], folder)
    python, bin_folder = str(folder / "venv/bin/python"), folder / "venv/bin"
    pip = [python, "-P", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if not by_pipx:
        step("install torch", [*pip, "-c", pins, "torch"], folder)
        step("install the wheel", [*pip, "-c", pins, wanted], folder)
        return bin_folder
    step("install pipx", [*pip, "pipx"], folder)
    home = {"PIPX_HOME": str(folder / "pipx"), "PIPX_BIN_DIR": str(folder / "pipx-bin")}
    command = [python, "-P", "-m", "pipx", "install", "--pip-args", f"-c {pins}", wanted]
    step("pipx install", command, folder, **home)
    return folder / "pipx-bin"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--extras", default="plots", help="of the wheel; empty for the core alone")
    parser.add_argument("--pipx", action="store_true", help="install by pipx rather than by pip")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wheel-check-") as temporary:
        folder = Path(temporary)
        commands = installed(folder, arguments.extras, arguments.pipx)
        nasalign = str(commands / "nasalign")
        print(step("doctor", [nasalign, "doctor"], folder))
        sets = [part for setting in ALIGN for part in ("--set", setting)]
        step("align", [nasalign, "align", "smollm2-135m", "--out", "run", *sets], folder)
        step("report", [nasalign, "report", "run"], folder)
        step("export the adapter", [nasalign, "export", "run", "out", "--format=adapter"], folder)
        step("export a checkpoint", [nasalign, "export", "run", "merged"], folder)
        python = (commands / "nasalign").resolve().with_name("python")
        where = (
            "from nasalign.models.embedded import embedded_folder as f; print(f('smollm2-135m'))"
        )
        asked = [str(python), "-P", "-c", where]
        base = step("the base model", asked, folder).strip().splitlines()[-1]
        reload = [str(python), "-P", "-c", RELOAD, base, "out", "merged"]
        print(step("reload without nasalign", reload, folder).strip().splitlines()[-1])


if __name__ == "__main__":
    main()
