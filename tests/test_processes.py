"""Two processes find the heads and the figures that one finds."""

import json
from pathlib import Path

import pytest

from cases import DENIES, case, sets
from fault_tools import python

SETTINGS = ("epochs=3", "n=4", "k=8", "learning_rate=1e-3", "bootstrap_samples=50")
SETTINGS += ("answer_tokens=6", "sides=both", "rho=-100", "tuning_batch_size=5")


# What accelerate launch itself starts for several GPUs; on a CPU it starts a single process.
LAUNCH = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "rate"), [("nasa", "1e-3"), ("nasa", "auto"), ("nasa+", "1e-3")]
)
def test_two_processes_give_what_one_gives(tmp_path: Path, method: str, rate: str) -> None:
    model, data = case(tmp_path, DENIES, questions=61)
    how = (f"method={method}", f"learning_rate={rate}", "joint_epochs=1")
    settings = sets((*SETTINGS, *how))
    command = ["-m", "nasalign", "align", str(model), "--data", str(data), *settings]
    one, two = tmp_path / "one", tmp_path / "two"
    alone = python(*command, "--out", str(one), "--json")
    assert alone.returncode == 0, alone.stderr[-2000:]
    both = python(*LAUNCH, *command, "--out", str(two), "--json")
    assert both.returncode == 0, both.stderr[-3000:]
    printed = [line for line in both.stdout.splitlines() if line.startswith("{")]
    assert len(printed) == 1  # the first process speaks

    tuning = "tuning.jsonl" if method == "nasa" else "joint.jsonl"
    names = ("parametric.jsonl", "probing.jsonl", tuning, "heads.json")
    if rate == "auto":
        names += ("learning_rate.json",)
    for name in (*names, "side_effects.json"):
        assert_close(rows(one / name), rows(two / name))
    assert any(row.get("kept") for row in rows(one / tuning))
    assert_close(json.loads((one / "metrics.json").read_text()), json.loads(printed[0]))
    for name in ("questions.before.jsonl", "questions.after.jsonl"):
        assert_close(rows(one / "eval" / name), rows(two / "eval" / name))


def rows(path: Path) -> list[dict]:
    text = path.read_text()
    return json.loads(text) if path.suffix == ".json" else list(map(json.loads, text.splitlines()))


def assert_close(one: object, two: object) -> None:
    """The same but for the last digits of numbers; what only the second has does not count."""
    if isinstance(one, float):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-5)
    elif isinstance(one, dict):
        assert isinstance(two, dict)
        for key, value in one.items():
            assert_close(value, two[key])
    elif isinstance(one, list):
        assert isinstance(two, list)
        assert len(one) == len(two)
        for left, right in zip(one, two, strict=True):
            assert_close(left, right)
    else:
        assert one == two


@pytest.mark.long
def test_several_processes_do_not_go_on_with_a_run(tmp_path: Path) -> None:
    code = (
        "import os; os.environ |= {'WORLD_SIZE': '2', 'RANK': '0'}\n"
        "from nasalign.models import processes\n"
        "processes.count = lambda: 2\n"
        "from nasalign.commands import main\n"
        "import sys; sys.argv = ['nasalign', 'align', 'smollm2-135m', '--resume', '--out', "
        f"{str(tmp_path / 'run')!r}]\n"
        "main()"
    )
    done = python("-c", code)
    assert done.returncode == 2
    assert "Several processes cannot resume a run" in " ".join(done.stderr.split())


SMALL = """
import sys
from pathlib import Path
import torch
from nasalign.commands import main
from nasalign.models import loading, processes

most, real = int(sys.argv.pop(1)), loading._check_finite

def small(module, inputs):
    if inputs[0].shape[0] > most and not processes.is_first():
        Path(sys.argv[-1] + ".refused").touch()
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

def check(model, name):
    real(model, name)
    model.model.layers[-1].register_forward_pre_hook(small)

loading._check_finite = check
main()
"""


@pytest.mark.long
@pytest.mark.slow
def test_memory_that_runs_out_in_one_process(tmp_path: Path) -> None:
    model, data = case(tmp_path, DENIES, questions=61)
    script = tmp_path / "small.py"
    script.write_text(SMALL)
    command = ["align", str(model), "--data", str(data), *sets(SETTINGS), "--json", "--out"]
    one, two, none = (str(tmp_path / name) for name in ("one", "two", "none"))
    alone = python("-m", "nasalign", *command, one)
    both = python(*LAUNCH, str(script), "2", *command, two)
    assert both.returncode == 0, both.stderr[-3000:]
    assert Path(f"{two}.refused").exists()
    found = json.loads(both.stdout.splitlines()[-1]) | {"run": one}
    assert_close(json.loads(alone.stdout), found)

    failed = python(
        *LAUNCH, str(script), "0", *command, none
    )  # and the other does not wait for ever
    assert failed.returncode != 0
    assert "Memory ran out on cpu while scoring" in " ".join(failed.stderr.split())
