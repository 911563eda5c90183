"""A report as one self-contained HTML page: no network, nothing to install."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from edgepack import files
from edgepack.records import Operator, Report, ReportSection
from edgepack.reporting import losses, plots, provenance, runs, sizes, steps, tables, verdicts
from edgepack.reporting.cells import Cell, cells
from edgepack.reporting.choice import RULE, best, candidate
from edgepack.reporting.headline import cards

OPERATOR_FIELDS = (
    *("index", "name", "layer", "dtype", "weights", "output_shape"),
    *("params", "macs", "bytes_moved", "weight_bytes"),
)


def to_html(report: Report) -> str:
    """The page. Names that come from models, devices and recipes are text there, never code.

    Its content security policy admits no request and no script but its own two, by hash.
    """
    environment = Environment(
        loader=PackageLoader("edgepack.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    views = [_view(section, index) for index, section in enumerate(report.sections)]
    drawn = any(view["figures"][name] for view in views for name in view["figures"])
    style, script = (_source(environment, name) for name in ("page.css", "page.js"))
    plotly = _plotly() if drawn else ""
    overview = verdicts.overview(report) if len(views) > 1 else []
    return environment.get_template("page.html").render(
        report=report,
        views=views,
        rule=RULE,
        totals=verdicts.totals(report),
        overview=overview,
        changed=list(dict.fromkeys(title for glance in overview for title in glance.changes)),
        data=embedded({"sections": [_data(view) for view in views]}),
        style=Markup(style),  # noqa: S704 - edgepack's own file
        script=Markup(script),  # noqa: S704 - edgepack's own file
        plotly=Markup(plotly),  # noqa: S704 - the plotly package's own file
        hashes=[_hash(source) for source in (plotly, script) if source],
        versions=provenance.listed(report.versions),
    )


def embedded(value: Any) -> Markup:
    """Strict JSON that is inert inside a script element, whatever the strings in it say."""
    text = json.dumps(files.strict(value), allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - nothing in it can end the element


def _view(section: ReportSection, index: int) -> dict[str, Any]:
    found = cells(section)
    chosen = candidate(section)
    return {
        "id": f"section-{index + 1}",
        "section": section,
        "title": f"{section.model} → {section.target_name}",
        "verdicts": verdicts.matrix(section),
        "counts": verdicts.counts(section.verdicts),
        "cards": cards(section, found),
        "chosen": chosen.recipe if chosen is not None else None,
        "best": chosen is not None and chosen is best(section),
        "packs": tables.packs(section) if section.packs else None,
        "measurements": _unless_empty(tables.measurements(section, found)),
        "steps": steps.attributions(section),
        "failures": [cell for cell in found if cell.error is not None],
        "figures": {
            "size": plots.size_tradeoff(section, found),
            "latency": plots.latency_tradeoff(section, found),
            "breakdown": sizes.breakdown(section),
            "distribution": plots.distribution(section, found),
            "sustained": runs.plot(section, found),
        },
        "told": runs.sentences(found),
        "timed": runs.operators(found),
        "operators": _operators(section),
        "losses": _unless_empty(losses.table(section)),
        "losses_told": [(recipe, losses.told(found)) for recipe, found in section.debugs.items()],
        "notes": provenance.notes(section, found),
        "origins": _unless_empty(provenance.origins(section)),
        "runs": _unless_empty(provenance.runs(found)),
        "states": provenance.states(section),
        "commands": provenance.commands(found),
        "emulated": _emulated(found),
    }


def _data(view: dict[str, Any]) -> dict[str, Any]:
    return {"id": view["id"], "figures": view["figures"], "operators": view["operators"]}


def _unless_empty(table: tables.Table) -> tables.Table | None:
    return table if table.rows else None


def _operators(section: ReportSection) -> list[dict[str, Any]]:
    """Each recipe's per-layer table; recipes with the same one share it by their names."""
    shared: dict[tuple[Operator, ...], list[str]] = {}
    for recipe, operators in section.operators.items():
        if operators:
            shared.setdefault(operators, []).append(recipe)
    return [
        {
            "recipe": _few(recipes),
            "rows": [_operator(operator) for operator in operators],
        }
        for operators, recipes in shared.items()
    ]


def _few(recipes: list[str]) -> str:
    """Up to three names, then how many more."""
    more = f" and {len(recipes) - 3} more" if len(recipes) > 3 else ""
    return ", ".join(recipes[:3]) + more


def _operator(operator: Operator) -> list[Any]:
    row = [getattr(operator, name) for name in OPERATOR_FIELDS]
    row[OPERATOR_FIELDS.index("output_shape")] = "×".join(map(str, operator.output_shape))
    if operator.weights is not None and operator.granularity != "none":
        row[OPERATOR_FIELDS.index("weights")] = f"{operator.weights} {operator.granularity}"
    row[0] = operator.index if operator.subgraph == 0 else f"{operator.subgraph}:{operator.index}"
    return row


def _emulated(found: Sequence[Cell]) -> list[str]:
    return list(
        dict.fromkeys(
            cell.label
            for cell in found
            if cell.measurement is not None and cell.measurement.device.emulated
        )
    )


def _source(environment: Environment, name: str) -> str:
    """A template folder's file as it is."""
    if environment.loader is None:
        raise ValueError("the environment has no loader")
    return environment.loader.get_source(environment, name)[0]


def _plotly() -> str:
    """plotly.js as its Python package ships it."""
    resource = importlib.resources.files("plotly") / "package_data" / "plotly.min.js"
    return resource.read_text(encoding="utf-8")


def _hash(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
