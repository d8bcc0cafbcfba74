"""The rows of the paper's method: what they tune, and that the model is put back."""

from pathlib import Path

import pytest

import jobs
import tiny
from cases import AFFIRMS, DENIES, case
from nasalign.commands import compare as room
from nasalign.commands.align import align_job
from nasalign.commands.compare import compare_job
from nasalign.commands.job import Job
from nasalign.config import Settings
from nasalign.errors import NothingToFixError
from nasalign.io.files import read_json
from nasalign.rivals.baselines import NASA, QUERY_ONLY, RANDOM, UNTOUCHED, random_heads
from nasalign.rivals.rival import Fitted, Material, Rival

QUICK = jobs.QUICK | {"direction": "negative", "rho": -100.0, "side_effect_questions": 0}


def material_of(folder: Path, seed: int = DENIES) -> tuple[Material, Job]:
    """What rows of a comparison with a tiny model are fitted on."""
    model, data = case(folder, seed, questions=60)
    job = jobs.make(model, data, changes=QUICK)
    seen: list[Material] = []
    catch = Rival("catch", "", "", False, lambda material: seen.append(material) or Fitted())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "RIVALS", (UNTOUCHED, catch))
        compare_job(job)
    return seen[0], job


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return material_of(tmp_path_factory.mktemp("rows"))[0]


@pytest.mark.parametrize("rival", [NASA, QUERY_ONLY, RANDOM], ids=lambda rival: rival.name)
def test_the_change_is_applied_and_taken_off_to_the_bit(rival: Rival, material: Material) -> None:
    before = tiny.state(material.model)
    fitted = rival.fit(material)
    assert tiny.same(before, material.model)
    with fitted.on(material.model):
        moved = {
            name: int((before[name] != one).sum())
            for name, one in material.model.state_dict().items()
        }
    assert tiny.same(before, material.model)
    changed = {name: count for name, count in moved.items() if count}
    assert changed
    scopes = ("q_proj",) if rival is QUERY_ONLY else ("q_proj", "k_proj")
    assert all(any(scope in name for scope in scopes) for name in changed)
    assert 0 < sum(changed.values()) <= fitted.parameters
    assert fitted.chosen["heads"] >= fitted.chosen["tried"] >= len(fitted.chosen["kept"]) > 0


def test_random_heads_are_drawn_by_the_seed(material: Material) -> None:
    probing = material.probing
    one, same, other = (random_heads(probing, 3, draw) for draw in ("0/a", "0/a", "0/b"))
    assert one == same != other
    assert len({head[:2] for head in one}) == 3
    assert [head.nas for head in one] == sorted((head.nas for head in one), reverse=True)
    for head in one:
        assert head.nas == pytest.approx(float(probing.nas[:, head.layer, head.head].mean()))


def test_nasa_is_what_align_makes(tmp_path: Path) -> None:
    material, job = material_of(tmp_path)
    align_job(jobs.again(job, tmp_path / "run"))
    facts = read_json(tmp_path / "run" / "run.json")
    fitted = NASA.fit(material)
    assert len(fitted.chosen["kept"]) == facts["adapter"]["heads_kept"]
    assert fitted.parameters == facts["adapter"]["parameters"]


def test_a_model_without_a_false_negative_has_no_such_row(tmp_path: Path) -> None:
    material, _ = material_of(tmp_path, AFFIRMS)
    for rival in (NASA, QUERY_ONLY, RANDOM):
        with pytest.raises(NothingToFixError):
            rival.fit(material)
    assert UNTOUCHED.fit(material) == Fitted()
    assert isinstance(material.settings, Settings)
