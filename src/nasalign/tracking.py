"""Metrics and charts of a run for trackio or wandb, only where the user asks for it.

Both packages have the same functions here: ``init``, ``log``, ``Image`` and ``finish``.
"""

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from nasalign.errors import NasAlignError
from nasalign.extras import check_tracker, lack
from nasalign.models import processes
from nasalign.nasa.decisions import EpochRecord, HeadRecord
from nasalign.nasa.head_tuning import OnRecord
from nasalign.nasa_plus.joint_pairs import JointRecord

TrackerName = Literal["trackio", "wandb"]
PROJECT = "nasalign"
"""The name of the project that runs are put under."""
_NAMES = {"alpha": "head NAS", "beta": "model NAS", "yes_share": "share of Yes"}
_SCALE = 2.0  # pixels of a chart's picture for one of its page


@dataclass
class Tracker:
    """Hands figures on to a package; does nothing without one.

    Attributes:
        package: the imported ``trackio`` or ``wandb``, or None.
        say: shows a sentence.
    """

    package: Any = None
    say: Callable[[str], None] = lambda text: None

    def log(self, figures: Mapping[str, Any]) -> None:
        """Log numbers by name; those that are not finite are left out."""
        numbers = {name: value for name, value in figures.items() if _is_finite(value)}
        if self.package and numbers:
            self.package.log(numbers)

    def watching(self, on_record: OnRecord) -> OnRecord:
        """Return a function for ``align`` that logs each record, then does what another does."""

        def watch(record: Any) -> Any:
            self.log(tracked_figures(record))
            return on_record(record)

        return watch

    def results(self, datasets: Mapping[str, Mapping[str, Any]], folder: Path | None) -> None:
        """Log the metrics of each data set by side, and the charts of the run's report.

        Args:
            datasets: metrics by name, by side and by data set, as in ``metrics.json``.
            folder: the run directory, from whose files the charts are drawn.
        """
        if not self.package:
            return
        flat = {
            f"{side}/{data}/{name}": value
            for data, sides in datasets.items()
            for side, metrics in sides.items()
            for name, value in metrics.items()
        }
        self.log(flat)
        if folder:
            self.charts(folder)

    def charts(self, folder: Path) -> None:
        """Log each chart of a run's report as a picture; without ``plots`` there are none."""
        if not self.package:
            return
        if sentence := lack("plots"):
            self.say(f"Charts are not tracked. {sentence}")
            return
        from vl_convert import svg_to_png

        from nasalign.reporting.report.charts import charts_of
        from nasalign.reporting.report.data_sets import data_sets
        from nasalign.reporting.report.run_folder import RunFiles

        files = RunFiles.read(folder)
        with TemporaryDirectory() as pictures:
            for name, chart in charts_of(files, data_sets(files)).items():
                path = Path(pictures) / f"{len(list(Path(pictures).iterdir()))}.png"
                path.write_bytes(svg_to_png(chart.svg, scale=_SCALE))
                self.package.log({f"charts/{name}": self.package.Image(str(path))})


@contextmanager
def tracking(
    name: TrackerName | None,
    run: str,
    config: Mapping[str, Any],
    say: Callable[[str], None],
) -> Iterator[Tracker]:
    """Yield a tracker that has begun a run of the project ``nasalign``, and end the run after it.

    Nothing is imported, written or sent where ``name`` is None, nor by any process but the first.
    Where a package keeps or sends the figures is its own matter: trackio writes a local database
    unless a Space is set, wandb sends unless ``WANDB_MODE=offline``.

    Args:
        name: the package, or None.
        run: the name of the run.
        config: what the run was given.
        say: shows a sentence.

    Raises:
        NasAlignError: the package is not installed, or it cannot begin a run.
    """
    check_tracker(name)
    if name is None or not processes.is_first():
        yield Tracker()
        return
    package = import_module(name)
    with redirect_stdout(sys.stderr):  # --json has standard output to itself
        try:
            package.init(project=PROJECT, name=run, config=dict(config))
        except Exception as error:  # of a package that is not ours
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise NasAlignError(f"{name} cannot begin a run: {reason}") from error
    try:
        yield Tracker(package, say)
    finally:
        with redirect_stdout(sys.stderr):
            package.finish()


def tracked_figures(record: EpochRecord | HeadRecord | JointRecord) -> dict[str, Any]:
    """Return the numbers of a record of tuning by the names under which they are tracked."""
    if isinstance(record, JointRecord):
        found: dict[str, Any] = {
            "joint/epoch": record.epoch,
            "joint/loss": record.loss,
            "joint/validation loss": record.validation,
        }
        figures = {"accuracy": record.accuracy, "AUC": record.auc, "share of Yes": record.yes_rate}
        return found | {
            f"joint/{name}/{kind}": value
            for name, by_kind in figures.items()
            for kind, value in by_kind.items()
        }
    part = "epoch" if isinstance(record, EpochRecord) else "head"
    return {f"{part}/{_NAMES.get(name, name)}": value for name, value in asdict(record).items()}


def _is_finite(value: Any) -> bool:
    return isinstance(value, bool | int | float) and math.isfinite(value)
