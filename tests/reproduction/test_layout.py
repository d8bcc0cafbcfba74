"""A result's table: ours above the paper's, methods side by side, intervals with ours alone."""

from nasalign.reproduction.layout import lay_out, texts
from nasalign.reproduction.result import Result, beside_paper


def test_ours_stand_above_the_papers_of_the_same_data_set() -> None:
    ours = [
        {"dataset": name, "model": "mine", "method": method, "accuracy": 0.5, "precision": None}
        | {"recall": 0.25, "f1": 1.0, "nas": -12.34, "recall_low": 0.2, "recall_high": 0.3, "n": 7}
        for name in ("strategyqa", "musique")
        for method in ("baseline", "NASA")
    ]
    header, rows = texts(beside_paper(3, ours, []))
    assert header == ["dataset", "model", "accuracy", "precision", "recall", "f1", "nas", "n"]
    assert [row[:2] for row in rows] == [
        [name, model]
        for name in ("strategyqa", "musique")
        for model in ("mine", *(f"{one} (paper)" for one in ("LLaMA", "Mistral", "Gemma", "Qwen")))
    ]
    assert rows[0][2:] == [
        "0.500 / 0.500",
        "n/a / n/a",
        "0.250 / 0.250",
        "1.000 / 1.000",
        "-12.3 / -12.3",
        "7",
    ]
    assert rows[1][-1] == ""
    assert rows[1][2] == "0.871 / 0.877"  # LLaMA on StrategyQA, as printed
    _, cells = lay_out(beside_paper(3, ours, []))
    assert cells[0][4].more == "0.200 to 0.300 / 0.200 to 0.300"
    assert not cells[0][2].more


def test_free_answers_and_their_confidence_are_columns() -> None:
    ours = [
        {"dataset": "musique", "model": "mine", "response": response, "confidence": confidence}
        | {"share": 0.125, "share_low": 0.1, "share_high": 0.2}
        for response in ("Det-T", "Det-F", "Non-Det")
        for confidence in ("High", "Low")
    ]
    header, rows = texts(beside_paper(16, ours, []))
    assert header[2:-1] == [
        f"{response} {confidence}"
        for response in ("Det-T", "Det-F", "Non-Det")
        for confidence in ("High", "Low")
    ]
    assert rows[0] == ["musique", "mine", *["0.125"] * 6, ""]
    assert rows[1][:2] == ["musique", "LLaMA (paper)"]
    assert rows[1][2:-1] == ["0.210", "0.182", "0.141", "0.261", "0.040", "0.166"]


def test_standard_deviations_stand_with_means() -> None:
    row = {"source": "ours", "model": "mine", "ece": 0.5, "ece_sd": 0.01}
    _, rows = lay_out(Result("table-20", "", ("model",), ("ece",), [row]))
    assert rows[0][1].more == "\N{PLUS-MINUS SIGN} 0.010"


def test_figures_are_printed_by_their_size() -> None:
    shown = {None: "n/a", float("nan"): "n/a", 1071: "1,071", 0.5: "0.500", 3.04: "3.040"}
    shown |= {125.03: "125.0", 4.65e-69: "4.6e-69", 0.0: "0.000"}
    rows = [{"source": "ours", "model": "mine", "ece": value} for value in shown]
    _, printed = texts(Result("table-9", "", ("model",), ("ece",), rows))
    assert printed == [["mine", " / ".join(shown.values()), ""]]


def test_table_5_has_a_column_a_data_set() -> None:
    sizes = {"musique": 40, "gsm8k-rephrased": 30, "ar-lsat": 40}
    ours = [
        {"model": model, "dataset": name, "method": method, "accuracy": accuracy, "n": n}
        for name, n in sizes.items()
        for model in ("mine", "other")
        for method, accuracy in (("baseline", 0.5), ("NASA", 0.25))
    ]
    header, rows = texts(beside_paper(5, ours, []))
    assert header == ["model", "musique", "gsm8k-rephrased", "ar-lsat", "n"]
    assert rows[0] == ["mine", *["0.500 / 0.250"] * 3, "40 | 30 | 40"]
    assert [row[0] for row in rows[1:4]] == ["other", "LLaMA (paper)", "Mistral (paper)"]
    assert rows[2][1:] == ["0.594 / 0.596", "0.329 / 0.325", "0.235 / 0.227", ""]  # as printed


def test_tables_7_and_20_go_by_model_then_data_set() -> None:
    printed = {7: ("strategyqa", "gsm8k-rephrased", "ar-lsat")}
    printed[20] = ("strategyqa", "musique", "gsm8k-rephrased", "math-rephrased", "ar-lsat")
    for number, sets in printed.items():
        ours = [
            {"model": model, "dataset": name, "method": "NASA", "precision": 0.5}
            for name in sets
            for model in ("mine", "other")
        ]
        header, rows = texts(beside_paper(number, ours, []))
        assert header[:2] == ["model", "dataset"]
        papers = [f"{name} (paper)" for name in ("LLaMA", "Mistral", "Gemma", "Qwen")]
        assert [row[:2] for row in rows] == [
            [model, name] for model in ("mine", "other", *papers) for name in sets
        ]


def test_a_figure_that_the_paper_has_not_is_empty_there() -> None:
    ours = {"dataset": "strategyqa", "model": "mine", "method": "NASA", "ece": 0.2}
    result = beside_paper(6, [ours | {"ece_two_words": 0.1}], [], more=("ece_two_words",))
    header, rows = texts(result)
    assert header == ["dataset", "model", "ece", "ece two words", "n"]
    assert rows[0] == ["strategyqa", "mine", "0.200", "0.100", ""]
    assert rows[1] == ["strategyqa", "Mistral (paper)", "0.120 / 0.116", "", ""]
