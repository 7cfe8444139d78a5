import base64
import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from undercut import artifacts
from undercut.report.differences import points
from undercut.report.render import SCRIPT
from undercut.wording import milliseconds, money, quantity, size

from tests.report.conftest import HOSTED, LABELS, LANGUAGES, TEXT, MadeRun, Page

LOADING = {"src", "href", "srcset", "data", "action", "poster", "background", "xlink:href", "formaction", "ping"}

Chosen = tuple[dict[str, Any], Page]

pytestmark = pytest.mark.slow  # the run that they share takes about ten seconds to make


MANIFESTS = {"base": artifacts.MODEL, "scratch": artifacts.MODEL, "tuning": artifacts.TUNING}


def chosen_price(selection: dict[str, Any]) -> float:
    row = next(r for r in selection["candidates"] if r["candidate"] == selection["chosen"])
    return float(row["usd_per_million_requests"])


def candidate_cells(page: Page) -> dict[str, list[str]]:
    return {row[0].split()[0]: row for row in page.tables["candidates"][1:]}


def dollars(cell: str) -> float:
    return float(cell.replace("$", "").replace(",", ""))


def test_the_figures_are_the_selections(passed: Chosen) -> None:
    selection, page = passed
    assert selection["sentence"] in page.text
    assert f"{selection['chosen']} is the cheapest that passes" in page.text
    rows = candidate_cells(page)
    assert rows.keys() == {row["candidate"] for row in selection["candidates"]}
    for row in selection["candidates"]:
        cells = rows[row["candidate"]]
        assert row["verdict"] in cells[0]
        assert row["reason"] in cells[0]
        if row["verdict"] != "lost":
            metric = row["metric"]
            assert cells[1:] == [
                f"{metric['value']:.3f} {metric['low']:.3f} to {metric['high']:.3f}",
                money(row["usd_per_million_requests"]),
                money(row["usd_per_million_tokens"]),
                f"{milliseconds(row['latency_ms'])} / {milliseconds(row['latency_p95_ms'])}",
                quantity(row["requests_per_second"]),
                size(row["bytes"]),
                size(row["peak_memory_bytes"]),
            ]


def test_the_first_screen_shows_what_was_chosen(passed: Chosen) -> None:
    selection, page = passed
    row = next(r for r in selection["candidates"] if r["candidate"] == selection["chosen"])
    first = page.text[: page.text.index("Quality against price")]
    for figure in (f"{row['metric']['value']:.3f}", money(row["usd_per_million_requests"]), size(row["bytes"])):
        assert figure in first
    assert "cheaper than the fine-tuned model" in first


def test_how_each_stands_up_to_hurried_typing_is_shown(passed: Chosen, made: MadeRun) -> None:
    _, page = passed
    header, *rows = page.tables["heat sticky typing"]
    assert [row[0].removesuffix(" chosen") for row in rows] == ["linear/as-is", "finetuned/as-is"]
    assert [cell.partition(" rows")[0].rstrip("0123456789 ") for cell in header[2:4]] == [
        "Neighbouring keys",
        "Dropped letters",
    ]
    measured = artifacts.load(made.sources.evaluations[1], artifacts.EVALUATION)
    assert measured["candidate"] == "linear/as-is"
    for cell, entry in zip(rows[0][2:], measured["robustness"], strict=True):
        difference = entry["difference"]
        assert cell == f"{points(difference['value'])} {points(difference['low'])} to {points(difference['high'])}"


def test_accuracy_by_language_is_shown_for_every_candidate(passed: Chosen, made: MadeRun) -> None:
    _, page = passed
    header, *rows = page.tables["heat sticky languages"]
    assert header == ["Language", "Rows test / training", "Accuracy drawn", "linear as-is", "finetuned as-is"]
    found = [artifacts.load(made.sources.evaluations[i], artifacts.EVALUATION)["languages"] for i in (1, 0)]
    by_name = {row[0]: row for row in rows}
    assert by_name.keys() == {*LANGUAGES, "mean over languages"}
    for column, one in enumerate(found, start=3):
        for entry in one["accuracy"]:
            assert by_name[entry["language"]][column] == f"{entry['value']:.3f}"
            assert by_name[entry["language"]][1] == f"{entry['n']} / {entry['train_rows']}"
    assert by_name["mean over languages"][2:] == [f"{one['macro']['value']:.3f}" for one in found]
    assert "by language" not in page.text


def test_candidates_are_compared_row_by_row(passed: Chosen) -> None:
    selection, page = passed
    (pair,) = selection["comparisons"]
    header, row = page.tables["pairwise"]
    assert header[3] == f"Right alone it / {pair['against']}"
    difference = pair["difference"]
    assert row[0] == f"{pair['candidate']} missed"
    assert row[2] == f"{points(difference['value'])} {points(difference['low'])} to {points(difference['high'])}"
    assert row[3] == f"{pair['first_only']} / {pair['second_only']}"


def test_nothing_is_loaded_and_nothing_runs_but_our_own_script(passed: Chosen, missed: Chosen, whole: Chosen) -> None:
    for _, page in (passed, missed, whole):
        tags = [tag for tag, _ in page.elements]
        assert tags.count("script") == 1
        assert page.source.count(f"<script>{SCRIPT}</script>") == 1
        policy = next(a["content"] or "" for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
        digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
        assert policy.startswith(f"default-src 'none'; script-src 'sha256-{digest}'; ")
        assert not set(tags) & {"img", "iframe", "object", "embed", "form", "base", "image", "use", "foreignobject"}
        for _, attributes in page.elements:
            assert not [name for name in attributes if name.startswith("on")]
            for name in LOADING & attributes.keys():
                assert re.fullmatch(r"#[a-z]+|data:,", attributes[name] or ""), attributes
        style = page.source[page.source.index("<style>") : page.source.index("</style>")]
        assert "url(" not in style
        assert "@import" not in style


def test_the_contents_lead_somewhere(passed: Chosen, missed: Chosen, whole: Chosen) -> None:
    for _, page in (passed, missed, whole):
        identifiers = [a["id"] for _, a in page.elements if "id" in a]
        links = {(a["href"] or "")[1:] for tag, a in page.elements if tag == "a"}
        assert len(links) >= 8
        assert links <= set(identifiers)
        assert len(identifiers) == len(set(identifiers))


def test_what_comes_from_data_stays_text(passed: Chosen) -> None:
    _, page = passed
    for label in LABELS.values():
        assert page.text.count(" ".join(label.split())) > 3
    assert TEXT in page.text
    assert HOSTED[0]["name"] in page.text
    assert HOSTED[0]["source"] in page.text
    assert "<script>alert" not in page.source
    assert "<img" not in page.source


def test_plots_are_described(passed: Chosen) -> None:
    selection, page = passed
    plots = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(plots) == 6
    assert all(plot["role"] == "img" and plot["aria-label"] for plot in plots)
    price = next(a["aria-label"] or "" for a in plots if "price per million" in (a["aria-label"] or ""))
    for row in selection["candidates"]:
        assert (row["candidate"] in price) == (row["verdict"] != "lost")


def test_a_lost_candidate_keeps_its_reason(passed: Chosen) -> None:
    _, page = passed
    cells = candidate_cells(page)["linear/int8"]
    assert "int8 needs a PyTorch model, this one is linear" in cells[0]
    assert cells[1:] == ["not measured"]
    assert "Not drawn, for they could not be made: linear/int8." in page.text


def test_the_ledger_adds_up(passed: Chosen) -> None:
    selection, page = passed
    header, *rows, total = page.tables["ledger"]
    assert header[:2] == ["Step", "Cost"]
    # The selection's own step comes on top of those that it priced.
    assert len(rows) == len(selection["costs"]) + 1 == len(selection["ledger"])
    assert [row[0].split()[0] for row in rows] == [entry["step"] for entry in selection["ledger"]]
    spent = sum(entry["seconds"] * entry["cores"] / 3600 * 0.05 for entry in selection["ledger"])
    assert dollars(total[1]) == pytest.approx(spent, rel=1e-3)
    assert sum(dollars(row[1]) for row in rows) == pytest.approx(spent, rel=1e-2)
    assert f"{money(spent)} for " in page.text


def test_hosted_prices_have_date_source_and_break_even(passed: Chosen) -> None:
    selection, page = passed
    rows = {row[0]: row for row in page.tables["hosted"][1:]}
    dear, free = (rows[entry["name"]] for entry in selection["hosted"])
    assert dear[1] == money(selection["hosted"][0]["usd_per_million_requests"])
    assert dear[4] != "never"
    assert dear[5] == f"{HOSTED[0]['date']} {HOSTED[0]['source']}"
    assert free[4] == "never"


def test_the_data_card_accounts_for_every_row(passed: Chosen, made: MadeRun) -> None:
    _, page = passed
    card = artifacts.load(made.sources.data, artifacts.DATASET)
    assert f"{card['rows_read']} rows read = {card['rows_kept']} kept + {card['rows_rejected']} rejected" in page.text
    assert "1 missing text" in page.text
    assert "2 conflicting labels" in page.text
    assert re.search(r"rows\.csv:\d+ ?<img src=", page.text)


def test_the_lineage_gives_digests(passed: Chosen, made: MadeRun) -> None:
    selection, page = passed
    for row in selection["candidates"]:
        assert row["digest"] in page.text
    teacher = artifacts.load(made.sources.teacher, artifacts.MODEL)
    for digest in (teacher["digest"], teacher["base_model"]["digest"], teacher["dataset"]):
        assert digest in page.text


def test_if_none_passes_it_says_by_how_much_each_missed(missed: Chosen) -> None:
    selection, page = missed
    assert "No candidate passes" in page.text
    assert selection["sentence"] in page.text
    first = page.text[: page.text.index("Quality against price")]
    for row in selection["candidates"]:
        if row["verdict"] == "missed":
            for reason in row["reason"].removeprefix("missed the bar: ").split("; "):
                assert reason in first
    assert "is the cheapest that passes" not in page.text
    assert "Nothing was chosen; this is the candidate with the best accuracy" in page.text
    assert "Deployment" not in page.text


def test_a_run_whose_candidates_are_all_lost_has_a_page(made: MadeRun, seal_again: Callable[..., Path]) -> None:
    from undercut.report.render import Sources

    selection = artifacts.load(made.select("all-lost").selection, artifacts.SELECTION)
    kept = ("candidate", "structure", "precision", "digest")
    rows = [
        {name: row[name] for name in kept}
        | {"passed": False, "pareto": False, "verdict": "lost", "reason": "why <not>"}
        for row in selection["candidates"]
    ]
    changes = {"candidates": rows, "chosen": "", "best": "", "passed": False, "sentence": "No candidate could be made."}
    sources: Sources = replace(made.sources, selection=seal_again(made.root / "all-lost", artifacts.SELECTION, changes))
    page = made.render(sources, "all-lost.html")
    assert page.text.count("why <not>") == 3
    assert "Right and wrong" not in page.text
    assert "Quality against price" not in page.text


def test_macro_f1_is_named_where_it_is_the_bar(made: MadeRun) -> None:
    page = made.render(made.select("by-f1", metric="macro_f1"), "by-f1.html")
    assert page.tables["candidates"][0][1] == "macro-F1"


def test_a_dataset_s_password_is_not_shown(made: MadeRun, seal_again: Callable[..., Path]) -> None:
    card = artifacts.load(made.sources.data, artifacts.DATASET)
    sources = [card["sources"][0] | {"uri": "sql://reader:s3cret@db.example/shop"}]
    data = seal_again(made.sources.data, artifacts.DATASET, {"sources": sources})
    page = made.render(replace(made.select("password"), data=data), "password.html")
    assert "sql://reader:…@db.example/shop" in page.text
    assert "s3cret" not in page.source


def test_the_page_does_not_change_by_itself(made: MadeRun, passed: Chosen) -> None:
    again = made.render(replace(made.sources, selection=made.root / "passed"), "again.html")
    assert again.source == passed[1].source


@pytest.fixture(scope="module")
def shipped(made: MadeRun) -> Path:
    """The deployment's folder of a selection called ``shipped``."""
    from undercut.deploy.deployment import deploy
    from undercut.deploy.settings import DeployConfig
    from undercut.steps import step

    sources = made.select("shipped")
    output = made.root / "deployment"
    with pytest.MonkeyPatch.context() as patch, step("deploy", "shop", [str(sources.selection)], str(output)):
        patch.setenv("MLFLOW_TRACKING_URI", "")
        deploy(made.root / "shipped-chosen", sources.selection, sources.data, output, DeployConfig(model_name="shop"))
    return output


def test_a_deployment_is_reported(made: MadeRun, shipped: Path) -> None:
    sources = replace(made.sources, selection=made.root / "shipped", deployment=shipped)
    page = made.render(sources, "shipped.html")
    record = json.loads((shipped / artifacts.DEPLOYMENT).read_text())
    assert f"shop version {record['version']} is the champion: the first champion" in page.text
    assert f"{record['smoke_test']['rows']} rows over HTTP" in page.text
    assert [row[0] for row in page.tables["ledger"]][-2] == "deploy shop"


def test_a_rollout_is_reported(
    made: MadeRun, seal_again: Callable[[Path, str, dict[str, Any]], Path], shipped: Path
) -> None:
    rollout = {
        "namespace": "team-a",
        "service": "shop",
        "mode": "Standard",
        "how": "promoted from canary",
        "release": "s3://bucket/private/team-a/undercut/releases/shop/abc",
        "cluster_url": "http://shop-predictor.team-a.svc.cluster.local",
        "split": {"wished": 10.0, "attained": 12.5, "replicas": 1, "stable": 7, "minimum": 8},
        "load_check": {"requests_per_second": 812.0, "p50_ms": 4.2, "p95_ms": 9.1, "error_share": 0.0},
        "rollback": "<b>slow</b>",
    }
    output = seal_again(shipped, artifacts.DEPLOYMENT, {"kserve": rollout, "target": "kserve"})
    page = made.render(replace(made.sources, selection=made.root / "shipped", deployment=output), "rollout.html")
    for words in (
        "team-a/shop , Standard, promoted from canary",
        "10 % of the requests wished; 1 of 8 pods (12 %)",
    ):
        assert words in page.text
    assert "812 requests/s, median 4.2 ms, 95th percentile 9.1 ms, 0.0 % failed" in page.text
    assert "&lt;b&gt;slow" in page.source


def test_the_stages_before_fine_tuning_are_shown(whole: Chosen, stages: dict[str, Path]) -> None:
    _, page = whole
    adapted, scratch = (artifacts.load(stages[name], artifacts.MODEL) for name in ("base", "scratch"))
    search = artifacts.load(stages["tuning"], artifacts.TUNING)
    for title in ("Adapting the base to the domain", "A language model from scratch", "Tuning"):
        assert title in page.text
    assert search["sentence"] in page.text
    downstream = adapted["metrics"]["downstream"]
    assert f"an accuracy of {downstream['accuracy']['transferred']:.3f} from it" in page.text
    assert f"{quantity(scratch['parameter_count'])} parameters" in page.text
    for manifest in (adapted, scratch, search):
        assert manifest["digest"] in page.text
    names = [name.replace("_", " ") for name in search["defaults"]]
    assert [row[0] for row in page.tables["hyperparameters"][1:]] == names
    plots = [attributes["aria-label"] or "" for tag, attributes in page.elements if tag == "svg"]
    assert sum(label.startswith("Loss by tokens trained on") for label in plots) == 2
    assert any(label.startswith("Validation accuracy by trial") for label in plots)


def test_the_stages_before_fine_tuning_are_counted(whole: Chosen, stages: dict[str, Path]) -> None:
    selection, page = whole
    rows = [row[0] for row in page.tables["ledger"][1:-1]]
    assert sorted(rows) == sorted(
        [f"{e['step']} {e['detail']}".strip() for e in selection["ledger"]] + ["transfer", "pretrain", "tune"]
    )
    own = [artifacts.load(stages[name], manifest)["ledger"][-1] for name, manifest in MANIFESTS.items()]
    entries = {entry["id"]: entry for entry in [*selection["ledger"], *own]}.values()
    spent = sum(entry["seconds"] * entry["cores"] / 3600 * 0.05 for entry in entries)
    assert dollars(page.tables["ledger"][-1][1]) == pytest.approx(spent, rel=1e-3)
    before = spent - selection["ledger"][-1]["seconds"] * selection["ledger"][-1]["cores"] / 3600 * 0.05
    assert f"The run had cost {money(before)} when the choice was made" in page.text
    hosted = selection["hosted"][0]
    saved = hosted["usd_per_million_requests"] - chosen_price(selection)
    row = next(row for row in page.tables["hosted"] if row[0] == hosted["name"])
    assert row[4] == quantity(math.ceil(before / saved * 1e6))


def test_a_stage_left_out_shows_nothing(
    made: MadeRun, stages: dict[str, Path], seal_again: Callable[..., Path], passed: Chosen
) -> None:
    base = seal_again(
        stages["base"], artifacts.MODEL, {"structure": "base", "method": "the base as it is", "metrics": {}}
    )
    scratch = seal_again(stages["scratch"], artifacts.MODEL, {"lost": "there is no text", "metrics": {}})
    tuning = seal_again(stages["tuning"], artifacts.TUNING, {"trials": []})
    sources = replace(made.sources, selection=made.root / "passed", base=base, scratch=scratch, tuning=tuning)
    page = made.render(sources, "left-out.html")
    identifiers = {a["id"] for _, a in page.elements if "id" in a}
    assert identifiers == {a["id"] for _, a in passed[1].elements if "id" in a}
    assert not identifiers & {"adaptation", "scratch", "tuning"}
    # What they cost, little as it is, is counted all the same.
    assert {"transfer", "pretrain", "tune"} <= {row[0] for row in page.tables["ledger"]}
