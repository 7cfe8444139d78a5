"""Recall, precision and speed of the mask's patterns beside presidio-analyzer's, on written sentences.

presidio-analyzer works here without a trained model (a blank spaCy pipeline), since all that is compared has a form:
``pip install presidio-analyzer``. It is not pinned with the rest; the test is skipped without it.
"""

import logging
import time
from collections.abc import Callable, Sequence

import pytest
from undercut.ingest.personal_data import find

from tests.ingest.labelled_sentences import Span, read, score

pytestmark = pytest.mark.benchmark

SECONDS = 2.0
# What lies below is taken for so weak by its authors that it needs a word for it nearby.
SCORE = 0.35
KINDS = {
    "EMAIL_ADDRESS": "EMAIL",
    "URL": "URL",
    "IBAN_CODE": "IBAN",
    "CREDIT_CARD": "CARD",
    "IP_ADDRESS": "IP",
    "PHONE_NUMBER": "PHONE",
    "US_SSN": "ID",
}


def presidio() -> Callable[[str], Sequence[Span]]:
    """Return presidio's finder for the kinds that both know."""
    analyzer = pytest.importorskip("presidio_analyzer")
    spacy = pytest.importorskip("spacy")
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    engine = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": "blank"}])
    engine.nlp = {"en": spacy.blank("en")}
    analyzer = analyzer.AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])
    # Without a network it says at each start that it takes the list of domains that it ships.
    logging.getLogger("tldextract").setLevel(logging.CRITICAL)

    def analyze(text: str) -> list[Span]:
        found = analyzer.analyze(text, language="en", entities=list(KINDS), score_threshold=SCORE)
        return [(KINDS[result.entity_type], result.start, result.end) for result in found]

    return analyze


def rows_per_cpu_second(finder: Callable[[str], Sequence[Span]], texts: Sequence[str]) -> float:
    for text in texts:  # the first calls load and compile
        finder(text)
    rows, started = 0, time.process_time()
    while (spent := time.process_time() - started) < SECONDS:
        for text in texts:
            finder(text)
        rows += len(texts)
    return rows / spent


def test_against_presidio(capsys: pytest.CaptureFixture[str]) -> None:
    finders = {"Undercut": find, "presidio-analyzer": presidio()}
    lines = []
    for name in ("personal_data.txt", "personal_data_held_out.txt"):
        sentences = read(name)
        marked = sum(len(spans) for _, spans in sentences)
        lines.append(f"{name}: {len(sentences)} sentences, {marked} marked")
        for who, finder in finders.items():
            result, speed = score(sentences, finder), rows_per_cpu_second(finder, [text for text, _ in sentences])
            kinds = sorted({line.partition(":")[0] for line in result.missed})
            lines.append(
                f"  {who:<20} hidden {result.hidden:>4} = {result.recall:.1%}, named {result.named / marked:.1%}, "
                f"precision {result.precision:.1%} of {result.found}, {speed:>9,.0f} rows a CPU-s, misses {', '.join(kinds) or 'none'}"
            )
    with capsys.disabled():
        print("\n" + "\n".join(lines))
