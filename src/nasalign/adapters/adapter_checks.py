"""Checks that PEFT computes from an adapter exactly the change that nasalign reads.

The tensors must put rows into their places and do nothing else, and the configuration must be what
we write for such tensors, to the last key: only then do PEFT and nasalign make the same model.
"""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nasalign.errors import shortened

PREFIX, A, B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
Changes = dict[str, tuple[Tensor, Tensor]]
"""A [r, in] and B [out, r] by module, float32."""
_WITHOUT_EFFECT = ("base_model_name_or_path", "peft_version")
"""Keys of the configuration without influence on what PEFT computes for a given base."""


def peft_config(changes: Changes, rank: int, base_model: str) -> dict[str, Any]:
    """Return the configuration of an adapter of one rank, as PEFT reads it."""
    from peft import LoraConfig  # takes seconds

    config = LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=base_model,
        r=rank,
        lora_alpha=rank,  # PEFT's scaling is alpha over rank
        target_modules=sorted(changes),
        inference_mode=True,
    ).to_dict()
    # PEFT keeps the modules as a set, whose order differs between processes.
    return config | {"target_modules": sorted(changes)}


def changes_of(tensors: Mapping[str, Tensor]) -> tuple[Changes, str]:
    """Return A and B of each module in order, and the first fault of a tensor, or ``""``."""
    names = sorted(name.removeprefix(PREFIX).removesuffix(A) for name in tensors if A in name)
    changes: Changes = {}
    for name in names:
        pair = (tensors.get(f"{PREFIX}{name}{A}"), tensors.get(f"{PREFIX}{name}{B}"))
        if pair[0] is None or pair[1] is None:
            return {}, f"a tensor of {shortened(name)} is missing"
        a, b = changes[name] = pair[0], pair[1]
        if not a.dtype == b.dtype == torch.float32 or not a.dim() == b.dim() == 2:
            return {}, f"the tensors of {shortened(name)} are not float32 matrices"
        if not a.numel() or not b.numel() or len(a) != b.shape[1]:
            return {}, f"the shapes of {shortened(name)} do not fit each other"
        if not (a.isfinite().all() and b.isfinite().all()):
            return {}, f"the tensors of {shortened(name)} are not finite"
    if not changes or 2 * len(changes) != len(tensors):
        return {}, "it holds other tensors than those of its rows"
    return changes, ""


def config_fault(config: Mapping[str, Any], changes: Changes) -> str:
    """Return the first key by which PEFT would compute another change, or ``""``.

    The first versions gave each module a rank of its own, by patterns; now all have the same.
    """
    ranks = {module: len(a) for module, (a, _) in changes.items()}
    expected = peft_config(changes, max(ranks.values()), "")
    if config.get("rank_pattern"):
        expected |= {"rank_pattern": ranks, "alpha_pattern": ranks}
    elif len(set(ranks.values())) > 1:
        return "its modules have several ranks"
    from peft import LoraConfig

    # PEFT fills in missing keys by its defaults, except for the type.
    found = LoraConfig().to_dict() | {"peft_type": None} | dict(config)
    for key, value in found.items():
        if key in _WITHOUT_EFFECT:
            continue
        if key not in expected:
            return f"{shortened(key)} is not known to the PEFT that is installed"
        # as text, since True == 1
        if json.dumps(value, sort_keys=True) != json.dumps(expected[key], sort_keys=True):
            return f"{key} is {shortened(json.dumps(value))}"
    return ""


def real_rows(changes: Changes) -> tuple[Changes, str]:
    """Return the changes without the padding of the rank, and their fault, or ``""``.

    In an exact adapter, column j of B is 1 at the row that A's row j is added to and 0 elsewhere,
    and these rows ascend; the padding is 0 in both.
    """
    real: Changes = {}
    for module, (a, b) in changes.items():
        rank = int(b.any(dim=0).sum())
        rows = b.argmax(dim=0)[:rank]
        if (
            not rank
            or not bool((rows.diff() > 0).all())
            or not torch.equal(b[:, :rank], selector(rows, len(b)))
            or bool(a[rank:].any())
        ):
            return {}, f"B of {shortened(module)} does not put each row of A into a row of its own"
        real[module] = a[:rank], b[:, :rank]
    return real, ""


def reduction_fault(changes: Changes, rank: int, rows: Mapping[str, list[int]]) -> str:
    """Return the fault of the rows that a reduced adapter is said to change, or ``""``."""
    if set(rows) != set(changes) or any(len(a) != rank for a, _ in changes.values()):
        return "it is not reduced as it says"
    for module, (_, b) in changes.items():
        mine = rows[module]
        ascending = mine == sorted(set(mine)) and mine[:1] >= [0] and mine[-1] < len(b)
        if not ascending or set(b.any(dim=1).nonzero().flatten().tolist()) - set(mine):
            return f"it changes other rows of {shortened(module)} than it says"
    return ""


def selector(rows: Tensor, out_features: int) -> Tensor:
    """Return B [out, r]: column j is 1 at row ``rows[j]``."""
    chosen = torch.zeros(out_features, len(rows))
    chosen[rows, torch.arange(len(rows))] = 1.0
    return chosen
