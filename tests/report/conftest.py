"""A whole run of real stages whose labels, texts and prices try to break out of the page."""

import csv
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from undercut import artifacts
from undercut.report.reading import Run
from undercut.report.render import Sources, write_report
from undercut.steps import step

from tests.conftest import small_rows, write_base_model, write_unlabelled

LABELS = {
    "cancel": "<script>alert('cancel')</script>",
    "refund": 'refund" onmouseover="alert(1)',
    "track": "track & trace",
}
TEXT = "<img src=https://evil.example/x.png onerror=alert(1)>"
LANGUAGES = ("<b>en</b>", "de")
HOSTED = [
    {
        "name": "<b>Large</b>",
        "input": 0.1,
        "output": 0.4,
        "date": "2026-11-20",
        "source": "https://example.com/?a=1&b=2",
    },
    {"name": "Free", "input": 0.0, "output": 0.0, "date": "2026-11-21", "source": "an offer"},
]
PRICES = {"devices": {"cpu-core": {"usd_per_hour": 0.05}}, "hosted": HOSTED}


class Page(HTMLParser):
    """A page taken apart: its elements with attributes, and its text without style."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self._texts: list[str] = []
        self._open: list[str] = []
        self._table: list[list[str]] = []
        self.feed(self.source)
        self.text = " ".join(" ".join(self._texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        self._open.append(tag)
        if tag == "table":
            self._table = self.tables.setdefault(attributes.get("class") or "", [])
        elif tag == "tr":
            self._table.append([])
        elif tag in ("td", "th"):
            self._table[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" in self._open or "script" in self._open:
            return
        self._texts.append(data)
        if "td" in self._open or "th" in self._open:
            self._table[-1][-1] = " ".join(f"{self._table[-1][-1]} {data}".split())


@dataclass(frozen=True)
class MadeRun:
    """A run's artifacts, and how to choose and render again."""

    root: Path
    sources: Sources

    def select(self, name: str, **bar: Any) -> Sources:
        """Choose again by another bar."""
        from undercut.select.selection import select

        output, profiles = self.root / name, self.sources.profiles
        inputs = [str(p) for p in (*self.sources.models, *self.sources.evaluations, profiles)]
        with step("select", inputs=inputs, output=str(output)):
            chosen = self.root / f"{name}-chosen"
            models, evaluations = self.sources.models, self.sources.evaluations
            settings = {"metric": "accuracy", "minimum": 0.5, "maximum_drop": 0.5, **bar}
            select(models, evaluations, profiles, chosen, output, settings, "online", PRICES, "cpu-core")
        return replace(self.sources, selection=output)

    def render(self, sources: Sources, name: str = "page.html") -> Page:
        """Write the report and take it apart."""
        write_report(sources, self.root / name)
        return Page(self.root / name)


def make_run(root: Path) -> MadeRun:
    """Ingest, fine-tune a tiny base, make three candidates of which one is lost, measure."""
    from undercut.compress.structures import compress
    from undercut.evaluate.measure import EvaluateConfig, evaluate
    from undercut.finetune.classifier import finetune
    from undercut.finetune.settings import FinetuneConfig
    from undercut.ingest.dataset import IngestConfig, ingest
    from undercut.profile.measure import ProfileConfig, profile
    from undercut.quantize.export import QuantizeConfig, quantize

    rows = small_rows()[:300]
    base, source, data, teacher = (
        write_base_model(root / "base", rows),
        root / "rows.csv",
        root / "data",
        root / "teacher",
    )
    with source.open("w", newline="", encoding="utf-8") as stream:
        hostile = [
            (f"{TEXT} {text}" if i % 7 == 0 else text, LABELS[label], LANGUAGES[i % 2])
            for i, (text, label) in enumerate(rows)
        ]
        rejected = [("", "track", "en"), (f"{TEXT} twice", "a", "en"), (f"{TEXT} twice", "b", "en")]
        csv.writer(stream).writerows([("text", "label", "language"), *hostile, *rejected])
    with step("ingest", output=str(data)):
        ingest(IngestConfig(source=str(source)), data)
    with step("finetune", inputs=[str(data)], output=str(teacher)):
        finetune(
            data,
            teacher,
            FinetuneConfig(
                base_model=str(base), epochs=2, learning_rate=3e-3, batch_tokens=512, max_length=64, refit=False
            ),
        )
    models, evaluations = [], []
    for structure, precision in (("finetuned", "as-is"), ("linear", "as-is"), ("linear", "int8")):
        made, model, evaluation = (root / f"{kind}-{structure}-{precision}" for kind in ("made", "model", "evaluation"))
        with step("compress", structure, inputs=[str(teacher), str(data)], output=str(made)):
            compress(structure, teacher, data, made, seed=0)
        with step("quantize", f"{structure}/{precision}", inputs=[str(made), str(data)], output=str(model)):
            quantize(made, data, model, QuantizeConfig(precision=precision))
        with step("evaluate", f"{structure}/{precision}", inputs=[str(model), str(data)], output=str(evaluation)):
            evaluate(model, data, evaluation, EvaluateConfig())
        models.append(model)
        evaluations.append(evaluation)
    profiles = root / "profiles"
    with step("profile", inputs=[str(m) for m in models], output=str(profiles)):
        profile(models, teacher, data, profiles, ProfileConfig(rounds=1, seconds_per_cell=0.02))
    sources = Sources(
        data=data,
        teacher=teacher,
        models=tuple(models),
        evaluations=tuple(evaluations),
        profiles=profiles,
        selection=root / "none",
    )
    return MadeRun(root, sources)


def hand_made_run(**manifests: Any) -> Run:
    """A run of which only some manifests are there: for what is made of those alone."""
    empty: dict[str, Any] = {
        "data": {},
        "teacher": {},
        "models": {},
        "evaluations": {},
        "profiles": {},
        "selection": {},
    }
    absent = dict.fromkeys(("deployment", "base", "scratch", "tuning", "monitoring"))
    return Run(**{**empty, **absent, **manifests})


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MadeRun]:
    """The run's artifacts without a selection."""
    root = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNDERCUT_HOME", str(root / "home"))
        yield make_run(root)


@pytest.fixture(scope="session")
def stages(made: MadeRun) -> dict[str, Path]:
    """The folders of a transfer, a pretraining and a search of three trials on the run's data and base."""
    from undercut.pretrain.language_model import pretrain
    from undercut.pretrain.settings import PretrainConfig
    from undercut.transfer.domain_adaptation import transfer
    from undercut.transfer.settings import TransferConfig
    from undercut.tune.search import tune
    from undercut.tune.settings import TuneConfig

    root, data, base = made.root, made.sources.data, str(made.root / "base")
    texts = write_unlabelled(root / "unlabelled", [text for text, _ in small_rows()])
    language: dict[str, Any] = {"sequence_length": 32, "batch_tokens": 512, "learning_rate": 2e-3}
    folders = {name: root / name for name in ("adapted", "scratch", "tuning")}
    with step("transfer", inputs=[str(texts), str(data)], output=str(folders["adapted"])):
        settings = TransferConfig(base_model=base, max_steps=20, comparison_rows=100, comparison_epochs=1, **language)
        transfer(texts, data, folders["adapted"], settings)
    with step("pretrain", inputs=[str(texts)], output=str(folders["scratch"])):
        pretrain(texts, folders["scratch"], PretrainConfig(size="tiny", vocabulary_size=400, max_steps=20, **language))
    with step("tune", inputs=[str(data)], output=str(folders["tuning"])):
        search: dict[str, Any] = {"epochs": 2, "epochs_high": 3, "train_rows": 60, "usd_per_hour": 0.1}
        tune(data, folders["tuning"], TuneConfig(base_model=base, trials=3, learning_rate_high=1e-2, **search))
    return {"base": folders["adapted"], "scratch": folders["scratch"], "tuning": folders["tuning"]}


@pytest.fixture(scope="session")
def whole(made: MadeRun, stages: dict[str, Path]) -> tuple[dict[str, Any], Page]:
    """A selection in which the linear model wins, and its page with the stages before fine-tuning."""
    sources = replace(made.select("whole"), **stages)
    return artifacts.load(sources.selection, artifacts.SELECTION), made.render(sources, "whole.html")


@pytest.fixture(scope="session")
def passed(made: MadeRun) -> tuple[dict[str, Any], Page]:
    """A selection in which the linear model wins, and its page."""
    sources = made.select("passed")
    return artifacts.load(sources.selection, artifacts.SELECTION), made.render(sources, "passed.html")


@pytest.fixture(scope="session")
def missed(made: MadeRun) -> tuple[dict[str, Any], Page]:
    """A selection in which no candidate passes, and its page."""
    sources = made.select("missed", minimum=0.9999)
    return artifacts.load(sources.selection, artifacts.SELECTION), made.render(sources, "missed.html")


@pytest.fixture
def seal_again(tmp_path: Path) -> Callable[[Path, str, dict[str, Any]], Path]:
    """Return a function that copies an artifact with some of its settings changed."""

    def again(folder: Path, name: str, changes: dict[str, Any]) -> Path:
        target = tmp_path / f"{folder.name}-{len(os.listdir(tmp_path))}"
        target.mkdir()
        manifest = artifacts.load(folder, name)
        artifacts.write_json(target / name, manifest | changes)
        return target

    return again
