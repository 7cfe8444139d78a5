"""What monitor found, on the page: the section of a training, and the page of a run that found nothing to do."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from undercut import artifacts, registry
from undercut.errors import ConfigurationError
from undercut.monitor.settings import MonitorConfig
from undercut.monitor.watch import monitor
from undercut.report.monitoring import monitoring
from undercut.report.monitoring_plots import MOST_ROWS, shares_plot
from undercut.report.render import environment, write_page
from undercut.steps import step

from tests.conftest import small_rows, write_linear_model
from tests.monitor.conftest import CANDIDATES, write_version
from tests.report.conftest import LABELS, MadeRun, Page

VOUCHER = "<b>voucher</b>"


def ingested(folder: Path, rows: list[tuple[str, str]]) -> Path:
    from undercut.ingest.dataset import IngestConfig, ingest

    folder.mkdir()
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *((text, LABELS.get(label, label)) for text, label in rows)])
    with step("ingest", output=str(folder / "data")):
        ingest(IngestConfig(source=str(folder / "rows.csv")), folder / "data")
    return folder / "data"


@pytest.fixture
def watched(registry_store: None, tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """A function that monitors the champion's 300 rows and more; returns the dataset and monitor's artifact."""
    early = ingested(tmp_path / "early", small_rows()[:300])
    version = write_version(write_linear_model(tmp_path / "model", early), early)
    registry.connect().set_registered_model_alias("shop", registry.CHAMPION, version.number)

    def run(more: list[tuple[str, str]], **settings: Any) -> tuple[Path, Path]:
        data = ingested(tmp_path / "grown", [*small_rows()[:300], *more])
        output = tmp_path / "monitoring"
        with step("monitor", "shop", inputs=[str(data)], output=str(output)):
            monitor(data, output, MonitorConfig(model_name="shop", **settings), CANDIDATES)
        return data, output

    return run


def surge() -> list[tuple[str, str]]:
    return [(f"{text} with the voucher", label) for text, label in small_rows() if label == "refund"][:40]


def loaded(folder: Path) -> dict[str, Any]:
    return artifacts.load(folder, artifacts.MONITORING)


def test_nothing_to_train_for_has_a_page_of_its_own(watched: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    data, folder = watched(small_rows()[300:340], minimum_new_rows=50)
    write_page({"data": data, "monitoring": folder}, tmp_path / "page.html")
    page, seen = Page(tmp_path / "page.html"), loaded(folder)
    assert "Nothing to train for" in page.text
    assert f"{seen['reason']} Version 1 stays the champion." in page.text
    assert "version 1, linear/as-is" in page.text
    assert seen["champion"]["tags"]["dataset"] in page.text
    assert "340: 40 new, 300 that the champion's data had; 0 of those are gone" in page.text
    header, *rows = page.tables["drift"]
    assert header == ["Test", "Then", "Now", "Statistic", "p", "Threshold", "Rows then / now"]
    assert len(rows) == len(seen["tests"]) == 6
    assert all("no drift seen" in row[0] for row in rows)
    assert rows[0][6] == "61 / 40"
    assert page.source.count("<svg") == 3
    links = {(a["href"] or "")[1:] for tag, a in page.elements if tag == "a"}
    assert links == {"choice", "monitoring", "data"} <= {a["id"] for _, a in page.elements if "id" in a}


def test_drift_is_shown_with_its_test_and_what_moved_most(
    watched: Callable[..., tuple[Path, Path]],
) -> None:
    _, folder = watched(surge(), minimum_new_rows=1000)
    seen = loaded(folder)
    found = monitoring(seen)
    assert found["title"] == "Why it was trained anew"
    labels = found["tests"][0]
    assert (labels["alarm"], labels["most"], labels["p"]) == (True, LABELS["refund"], "0.0005")
    assert labels["rows"] == {"before": 61, "now": 40}
    assert [share["now"] for share in labels["shares"]] == [0.0, 1.0, 0.0]
    assert {"name": "worth a training", "value": "from 1,000 new rows, or drift", "digest": ""} in found["facts"]
    for figure in found["figures"]:
        assert sum(share["now"] for share in figure["shares"]) == pytest.approx(1)
        drawing = ElementTree.fromstring(figure["plot"])
        assert not [name for element in drawing.iter() for name in element.attrib if name.startswith("on")]
        for element in drawing.iter("circle"):
            assert 0 <= float(element.get("cx", "-1")) <= 360


def test_a_label_that_nobody_knew_stays_text(watched: Callable[..., tuple[Path, Path]]) -> None:
    new = [(f"my voucher {n} is rejected again", VOUCHER) for n in range(20)]
    _, folder = watched(new, minimum_new_rows=1000)
    seen = loaded(folder)
    assert seen["labels"]["new"] == [VOUCHER]
    section = environment().get_template("monitoring.html").render(monitoring=monitoring(seen))
    assert section.count("&lt;b&gt;voucher&lt;/b&gt;") >= 3
    assert VOUCHER not in section


def test_without_a_champion_there_is_little_to_say(registry_store: None, tmp_path: Path) -> None:
    data = ingested(tmp_path / "first", small_rows()[:60])
    monitor(data, tmp_path / "monitoring", MonitorConfig(model_name="shop"), CANDIDATES)
    found = monitoring(loaded(tmp_path / "monitoring"))
    assert found["title"] == "Why it was trained"
    assert [fact["name"] for fact in found["facts"]] == ["champion", "looked at now", "the training"]
    assert (found["tests"], found["figures"]) == ([], [])


def test_of_many_labels_those_are_drawn_that_moved_most() -> None:
    shares = [{"of": f"label {n}", "before": 0.05, "now": 0.05 + (n - 10) / 1000} for n in range(21)]
    plot = ElementTree.fromstring(shares_plot("Labels", {"shares": shares}))
    names = [t.text for t in plot.iter("text") if t.get("class") == "cell-name"]
    assert len(names) == MOST_ROWS
    assert names[:2] == ["label 0", "label 20"]
    assert "13 more moved less" in plot.get("aria-label", "")


def test_a_report_without_its_artifacts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no monitoring"):
        write_page({"data": tmp_path}, tmp_path / "page.html")
    with pytest.raises(ConfigurationError, match="no profiles, teacher"):
        write_page({"data": tmp_path, "selection": tmp_path}, tmp_path / "page.html")


@pytest.mark.slow
def test_a_training_s_report_says_why(
    watched: Callable[..., tuple[Path, Path]], made: MadeRun, passed: tuple[dict[str, Any], Page]
) -> None:
    _, folder = watched(surge())
    page = made.render(replace(made.sources, selection=made.root / "passed", monitoring=folder), "why.html")
    assert loaded(folder)["reason"] in page.text
    assert "monitoring" in {a["id"] for _, a in page.elements if "id" in a}
    assert "monitor shop" in [row[0] for row in page.tables["ledger"]]
    assert "monitoring" not in {a["id"] for _, a in passed[1].elements if "id" in a}
