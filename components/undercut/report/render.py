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

from undercut import artifacts, events, wording
from undercut.errors import ConfigurationError
from undercut.report import choice, conditions, dataset, differences, pretraining, provenance, spending
from undercut.report.comparisons import compared, comparisons
from undercut.report.monitoring import monitoring
from undercut.report.price_plot import price_plot
from undercut.report.quality import quality
from undercut.report.reading import Run, Sources, read
from undercut.report.tuning import tuning

__all__ = ["Sources", "write_page", "write_report", "write_unchanged"]

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


def write_page(given: Mapping[str, Path], page: Path) -> None:
    """Write the report of a run that trained, or of one in which there was nothing to train for.

    Args:
        given: the run's artifacts by name, those of :class:`Sources`; the candidates are in the selection.
        page: the HTML file.

    Raises:
        ConfigurationError: an artifact is missing, or a folder does not hold what it should.
    """
    trained = {"teacher", "profiles", "selection"}
    needed = trained if trained & given.keys() else {"monitoring"}
    if missing := needed - given.keys():
        raise ConfigurationError("report", f"no {', '.join(sorted(missing))}", f"{', '.join(sorted(needed))} and data")
    if needed == trained:
        cards = tuple(sorted((given["selection"] / "candidates").iterdir()))
        write_report(Sources(models=cards, evaluations=cards, **given), page)
    else:
        write_unchanged(given["data"], given["monitoring"], page)


def write_report(sources: Sources, page: Path) -> None:
    """Write the report of a run.

    Args:
        sources: the run's artifacts.
        page: the HTML file.

    Raises:
        ConfigurationError: a folder does not hold what it should.
    """
    _write("report.html", content(read(sources)), page)


def write_unchanged(data: Path, monitoring_folder: Path, page: Path) -> None:
    """Write the page of a run in which monitor found nothing to train for: what it looked at, and the data.

    Args:
        data: the dataset.
        monitoring_folder: monitor's artifact.
        page: the HTML file.

    Raises:
        ConfigurationError: a folder does not hold what it should.
    """
    seen = artifacts.load(monitoring_folder, artifacts.MONITORING)
    last = seen["ledger"][-1] if seen["ledger"] else None
    shown = {
        "monitoring": monitoring(seen),
        "data": dataset.data_card(artifacts.load(data, artifacts.DATASET)),
        "ended": datetime.fromtimestamp(last["started"] + last["seconds"], UTC) if last else None,
    }
    _write("unchanged.html", shown, page)


def _write(template: str, shown: Mapping[str, Any], page: Path) -> None:
    script = {
        "script": Markup(SCRIPT),
        "script_digest": base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode(),
    }
    html = environment().get_template(template).render({**shown, **script})
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
        "selection": run.selection,
        "metric": metric,
        "unit": choice.unit(run),
        "chosen": chosen,
        "figures": choice.figures(run, chosen) if chosen else [],
        "misses": choice.misses(run) if chosen is None else [],
        "lost": [row for row in run.rows if row["verdict"] == "lost"],
        "plots": [price_plot(run.running, run.selection["bar"], metric, *size) for size in sizes],
        "monitoring": run.monitoring and monitoring(run.monitoring),
        "comparisons": comparisons(run),
        "compared": compared(run),
        "hosted": choice.hosted(run, until_choice),
        "until_choice": until_choice,
        "entries": entries,
        "totals": totals,
        "decimals": spending.decimals(totals["usd"]),
        "ended": datetime.fromtimestamp(totals["ended"], UTC) if entries else None,
        "data": dataset.data_card(run.data),
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
