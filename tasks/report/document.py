"""A page of ours as one document: template, style sheet, script, plotly.js and charts in a single string."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import jinja2
import plotly
import plotly.graph_objects as go

from tasks.report import bundle
from tasks.report.charts import theme


def document(
    template: str, charts: Mapping[str, go.Figure], *, heat: dict[str, Any] | None = None, **context: Any
) -> str:
    """Return the page.

    Args:
        template: Name of a template beside this module.
        charts: Figures by the name that the template's ``data-chart`` asks for.
        heat: The grid's cube, `tasks.report.charts.grid.heat_data`; None where the page has no heatmap.
        context: What the template speaks of; every string in it is escaped.
    """
    data = {
        "charts": {name: json.loads(figure.to_json()) for name, figure in charts.items()},
        "dark": theme.exchange(),
        "heat": heat,
    }
    page = _environment().get_template(template)
    return page.render(
        data=bundle.embed_json(data),
        plotly_js=bundle.plotly_js(),
        plotly_version=plotly.offline.get_plotlyjs_version(),
        style=bundle.asset("report.css"),
        script=bundle.asset("report.js"),
        palette=theme.PALETTE,
        charts_drawn=frozenset(charts),
        **context,
    )


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("tasks.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
