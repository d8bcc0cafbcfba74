"""A few rows of our own in the upstream layout of each named data set, as files and as the hub."""

import json
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]

PASSAGE = "Three sit in a row: Klosnik, Londi, Manley. Londi sits first."
OPTIONS = ["Klosnik", "Londi", "Manley", "nobody"]
PARAGRAPHS = [
    {"idx": 0, "title": "Ulm", "paragraph_text": "Ulm lies on it.", "is_supporting": True},
    {"idx": 1, "title": "Rome", "paragraph_text": "Rome is old.", "is_supporting": False},
]
MUSIQUE: dict[str, Any] = {"id": "2hop__12_34", "paragraphs": PARAGRAPHS, "answerable": True}
MUSIQUE |= {"question": "Which river is at Ulm?", "answer": "Danube", "answer_aliases": ["Donau"]}


def _metamath(kind: str, query: str, answer: str) -> dict[str, str]:
    response = f"We add.\n#### {answer}\nThe answer is: {answer}"
    original = query.removesuffix(" So?")
    return {"type": kind, "query": query, "original_question": original, "response": response}


METAMATH = [
    _metamath("GSM_Rephrased", "Ann has 2 and 3 pears. How many?", "5"),
    _metamath("MATH_Rephrased", "What is half of a third?", "\\frac{1}{6}"),
    _metamath("GSM_Rephrased", "Ann has 2 and 3 pears. How many? So?", "5"),
    _metamath("MATH_AnsAug", "What is 1+1?", "2"),
    _metamath("MATH_Rephrased", "What is a quarter of ten?", "2.5."),
    _metamath("GSM_Rephrased", "Bob reads 1,200 pages. How many are left of 2,000?", "800"),
] + [
    _metamath("GSM_Rephrased", f"Carl counts {number} and {number + 3} sheep.", str(2 * number + 3))
    for number in range(5, 25)
]

FILES: dict[str, Rows] = {
    "hotpotqa": [
        {"question": "Who wrote Emma?", "answer": "Jane Austen", "type": "bridge"},
        {"question": "Are both red?", "answer": "yes", "type": "comparison"},
        {"question": "Who wrote Ulysses?", "answer": "James Joyce", "type": "bridge"},
    ],
    "strategyqa": [
        {"qid": "a1", "term": "Ice", "description": "water", "question": "Is ice cold?"}
        | {"answer": True, "facts": ["Ice is frozen.", "Frozen is cold."], "decomposition": []},
        {"qid": "a2", "term": "Tea", "question": "Is tea a stone?", "answer": False, "facts": []},
    ],
    "musique": [
        MUSIQUE,
        MUSIQUE | {"id": "2hop__56_34", "question": "Which river is there?", "answer": "Isar"},
        MUSIQUE | {"id": "2hop__78_90", "answerable": False},
    ],
    "gsm8k-rephrased": METAMATH,
    "math-rephrased": METAMATH,
    "gsm8k": [
        {"question": "How many legs have 3 dogs?", "answer": "3*4=<<3*4=12>>12\n#### 12"},
        {"question": "And 300 dogs?", "answer": "#### 1,200"},
        {"question": "And none?", "answer": "There are none."},
    ],
    "math": [
        {"problem": "Half of a third?", "level": "Level 1", "type": "Algebra"}
        | {"solution": "It is $\\boxed{2}$, no: $\\boxed{\\frac{1}{\\sqrt{36}}}$."},
        {"problem": "Open?", "level": "Level 1", "type": "Algebra", "solution": "\\boxed{3"},
        {"problem": "None?", "level": "Level 1", "type": "Algebra", "solution": "It is 3."},
    ],
    "ar-lsat": [
        {
            "id": "p1",
            "passage": PASSAGE,
            "questions": [
                {"id": "p1_1", "question": "Who sits first?", "options": OPTIONS, "answer": "B"},
                {"id": "p1_2", "question": "Who may be last?", "options": OPTIONS, "answer": "C"},
            ],
        }
    ],
}

_HUB: dict[str, tuple[str, dict[str | None, list[str]]]] = {
    "hotpotqa": ("hotpotqa/hotpot_qa", {"distractor": ["validation"]}),
    "strategyqa": ("ChilleD/StrategyQA", {None: ["train", "test"]}),
    "musique": ("dgslibisey/MuSiQue", {None: ["train", "validation"]}),
    "gsm8k-rephrased": ("meta-math/MetaMathQA", {None: ["train"]}),
    "math-rephrased": ("meta-math/MetaMathQA", {None: ["train"]}),
    "gsm8k": ("openai/gsm8k", {"main": ["train", "test"]}),
    "math": ("EleutherAI/hendrycks_math", {"algebra": ["test"], "geometry": ["test"]}),
    "ar-lsat": ("olegbask/AR-LSAT", {None: ["train", "validation", "test"]}),
}
MATH_CONFIGS = ["algebra", "counting_and_probability", "geometry", "intermediate_algebra"]
MATH_CONFIGS += ["number_theory", "prealgebra", "precalculus"]


def write(folder: Path, name: str) -> Path:
    """Writes the rows of a data set as its authors do, and returns the file."""
    lines = name in ("musique", "gsm8k", "math")
    path = folder / f"{name}.{'jsonl' if lines else 'json'}"
    rows = FILES[name]
    path.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows, indent=1))
    return path


def write_hub(folder: Path, name: str) -> Path:
    """Writes a data set as the hub lays it out: a card that names parquet or JSON files."""
    import datasets  # takes seconds, and most tests write files alone

    place, configs = _HUB[name]
    if name == "math":
        configs = {config: ["test"] for config in MATH_CONFIGS}
    card = ["configs:"]
    for config, splits in configs.items():
        card += [f"- config_name: {config or 'default'}", "  data_files:"]
        for split in splits:
            file = "/".join(filter(None, (config, f"{split}-00000-of-00001.parquet")))
            card += [f"  - split: {split}", f"    path: {file}"]
            target = folder / place / file
            target.parent.mkdir(parents=True, exist_ok=True)
            rows = [_hub_row(name, row, f"{config}{split}") for row in _flat(name)]
            datasets.Dataset.from_list(rows).to_parquet(target)
    (folder / place / "README.md").write_text("\n".join(["---", *card, "---", ""]))
    return folder / place


def _flat(name: str) -> Rows:
    if name != "ar-lsat":
        return FILES[name]
    return [
        {"context": PASSAGE, "question": one["question"], "answers": one["options"]}
        | {"label": "ABCD".index(one["answer"])}
        for one in FILES[name][0]["questions"]
    ]


def _hub_row(name: str, row: dict[str, Any], part: str) -> dict[str, Any]:
    """The columns of the hub where they differ from the authors' files."""
    if name == "hotpotqa":
        return row | {"id": f"{part}-{row['question']}", "level": "hard", "context": {"title": []}}
    if name == "strategyqa":
        kept = {key: row[key] for key in ("question", "answer")}
        more = {"qid": f"{part}-{row['qid']}", "term": row["term"], "description": ""}
        return kept | more | {"facts": " ".join(row["facts"])}
    return row
