"""The run's report: one HTML page that needs nothing else.

No font, no image, no script from elsewhere; what comes from data is escaped by the template engine, and
the page's own content policy forbids every load and every script but :data:`SCRIPT`, so that an escape
forgotten would do nothing.
"""

import base64
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from undercut import events, wording
from undercut.report import choice, conditions, dataset, differences, pretraining, provenance, spending
from undercut.report.comparisons import comparisons
from undercut.report.price_plot import price_plot
from undercut.report.quality import quality
from undercut.report.reading import Run, Sources, read
from undercut.report.tuning import tuning

__all__ = ["Sources", "write_report"]

TEMPLATES = Path(__file__).with_name("templates")
FORMATS = ("money", "times", "size", "duration", "milliseconds", "quantity", "percent")
# Within an <iframe srcdoc>, as KFP shows it, a link to #part would load the surrounding page into the frame.
SCRIPT = """document.querySelector("nav").addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link) return;
  event.preventDefault();
  document.getElementById(link.hash.slice(1)).scrollIntoView();
});"""
WIDE, NARROW = (860.0, 440.0), (364.0, 380.0)


def write_report(sources: Sources, page: Path) -> None:
    """Write the report of a run.

    Args:
        sources: the run's artifacts.
        page: the HTML file.

    Raises:
        ConfigurationError: a folder does not hold what it should.
    """
    html = environment().get_template("report.html").render(content(read(sources)))
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(html, encoding="utf-8")
    events.message(f"the report: {wording.size(page.stat().st_size)} of HTML")


def environment() -> jinja2.Environment:
    """Return the template engine: everything is escaped, a name that is missing is an error."""
    engine = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    engine.filters |= {name: getattr(wording, name) for name in FORMATS} | {"points": differences.points}
    return engine


def content(run: Run) -> Mapping[str, Any]:
    """Return what the template shows."""
    metric, chosen, shown = choice.metric_name(run), run.chosen, run.shown
    entries = spending.ledger(run)
    totals = spending.totals(entries)
    sizes = (WIDE, NARROW) if run.running else ()
    until_choice = spending.until_choice(run, entries)
    return {
        "script": Markup(SCRIPT),
        "script_digest": base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode(),
        "selection": run.selection,
        "metric": metric,
        "unit": choice.unit(run),
        "chosen": chosen,
        "figures": choice.figures(run, chosen) if chosen else [],
        "misses": choice.misses(run) if chosen is None else [],
        "lost": [row for row in run.rows if row["verdict"] == "lost"],
        "plots": [price_plot(run.running, run.selection["bar"], metric, *size) for size in sizes],
        "comparisons": comparisons(run),
        "hosted": choice.hosted(run, until_choice),
        "until_choice": until_choice,
        "entries": entries,
        "totals": totals,
        "decimals": spending.decimals(totals["usd"]),
        "ended": datetime.fromtimestamp(totals["ended"], UTC) if entries else None,
        "data": dataset.data_card(run),
        "quality": quality(run, shown) if shown else None,
        "languages": conditions.languages(run),
        "typing": conditions.typing(run),
        "adaptation": pretraining.adaptation(run, entries),
        "scratch": pretraining.scratch(run, entries),
        "tuning": tuning(run, entries),
        "training": provenance.training(run),
        "deployment": run.deployment,
        "lineage": provenance.lineage(run),
        "measurement": provenance.measurement(run),
    }
