"""How charts look: one Vega-Lite specification gives the picture and the live chart.

Text and lines take the colour of the page (``currentColor``), and neutral tones are transparent,
so that the same picture serves a light and a dark page. The colours are told apart by colour-blind
readers too, and none says alone what shape, dash or text does not say.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple

import altair as alt
import vl_convert

from nasalign.evaluation import head_map

BEFORE, AFTER = "#7086A0", "#E8770E"
TO_YES, TO_NO, FAINT, PAGE = head_map.TO_YES, head_map.TO_NO, head_map.FAINT, head_map.PAGE
SIDE_COLOURS = {"before": BEFORE, "after": AFTER}
RIGHT, WRONG = "#2F86C9", "#9A7B4F"
_VERSION = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
_WIDTH = 480  # of the picture; a live chart is as wide as the page lets it be


class Chart(NamedTuple):
    """A chart as its Vega-Lite specification, and the picture of it."""

    spec: dict[str, Any]
    svg: str


@lru_cache(maxsize=1)
def vega_script() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, which sets ``vegaEmbed``."""
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", _VERSION)
    return str(script).replace("</script", "<\\/script")


def finished(chart: Any, description: str, height: Any) -> Chart:
    """Give a chart its look and make its picture."""
    sized = chart.properties(
        width="container",
        height=height,
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
        description=description,
        background="transparent",
    )
    spec = styled(sized).to_dict()
    return Chart(spec, str(vl_convert.vegalite_to_svg(spec, vl_version=_VERSION)))


def styled(chart: Any) -> Any:
    """Return a chart with the fonts and colours of all charts."""
    return chart.configure(**_CONFIG)


_AXIS = {f"{part}Color": PAGE for part in ("label", "title", "domain", "tick", "grid")}
_CONFIG: dict[str, Any] = {
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif",
    "aria": False,
    "view": {"continuousWidth": _WIDTH, "discreteWidth": _WIDTH, "stroke": None},
    "axis": _AXIS
    | {"gridOpacity": 0.12, "domainOpacity": 0.5, "tickOpacity": 0.5}
    | {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": 150},
    "legend": {"labelColor": PAGE, "titleColor": PAGE, "orient": "top", "labelFontSize": 12}
    | {"symbolBaseFillColor": PAGE, "symbolBaseStrokeColor": PAGE, "symbolOpacity": 1}
    | {"titleFontSize": 12, "titleFontWeight": "normal"},
}


def values(rows: Sequence[Mapping[str, Any]]) -> alt.Data:
    """Return rows as inline data."""
    return alt.Data(values=[dict(row) for row in rows])


def unit(field: str, title: str | None = None) -> alt.X:
    """Return a horizontal axis from 0 to 1."""
    axis = alt.Axis(tickCount=5)
    return alt.X(field, title=title, scale=alt.Scale(domain=[0, 1]), axis=axis)


def tip(field: str, title: str | None = None) -> alt.Tooltip:
    """Return a figure of the text that a mark shows when it is pointed at."""
    return alt.Tooltip(f"{field}:Q", format=".3f", title=title or field)


def colour(field: str, colours: Mapping[str, str]) -> alt.Color:
    """Return the colours of a field by its values."""
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return alt.Color(f"{field}:N", title=None, scale=scale)


def shape(field: str, domain: list[str], shapes: list[str], **options: Any) -> alt.Shape:
    """Return the shapes of a field by its values."""
    scale = alt.Scale(domain=domain, range=shapes)
    return alt.Shape(f"{field}:N", title=None, scale=scale, **options)


def whole_numbers(most: int) -> alt.Axis:
    """Return an axis that counts from 0 to ``most``, with at most seven ticks.

    Vega would put ticks between whole numbers (0, 0.5, 1) and round their labels (0, 1, 1).
    """
    step = next(
        part * 10**power for power in count() for part in (1, 2, 5) if most <= 6 * part * 10**power
    )
    return alt.Axis(values=[*range(0, most + 1, step)], format="d", labelOverlap=False)
