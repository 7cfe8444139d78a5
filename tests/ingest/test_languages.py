import random

from py3langid.langid import MODEL_FILE, LanguageIdentifier
from undercut.ingest import languages
from undercut.ingest.languages import Languages

SENTENCES = [
    "Where is my parcel? It should have arrived yesterday.",
    "Wo ist mein Paket? Es hätte gestern ankommen sollen.",
    "Où est mon colis ? Il aurait dû arriver hier.",
    "¿Dónde está mi paquete? Debería haber llegado ayer.",
    "我的包裹在哪里?它昨天就应该到了。",
    "私の荷物はどこですか。昨日届くはずでした。",
    "أين طردي؟ كان يجب أن يصل أمس.",
    "Где моя посылка? Она должна была прийти вчера.",
    "SRPSKI JEZIK SE PIŠE ĆIRILICOM I LATINICOM",
    "Сви људи рађају се слободни",  # noqa: RUF001
]


def make_texts() -> list[str]:
    """Sentences mixed and cut anywhere, the shortest empty, the longest of 60,000 characters."""
    dice = random.Random(0)
    mixed = [" ".join(dice.choices(SENTENCES, k=dice.randint(1, 4)))[: dice.randint(1, 200)] for _ in range(400)]
    odd = ["", "ok", "12345", "A", "\U0001f642" * 30, "e\u0301te\u0301", "\ufffd" * 9, SENTENCES[1] * 1000, "x" * 9000]
    return [*SENTENCES, *odd, *mixed]


def test_a_batch_is_told_as_py3langid_tells_its_texts() -> None:
    texts = make_texts()
    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    expected = [model.classify(text) for text in texts]
    found = Languages().tell(texts)
    assert [told.language for told, (_, p) in zip(found, expected, strict=True) if p > 0.01] == [
        language for language, p in expected if p > 0.01
    ]  # below, no feature was found: all languages are equal
    assert max(abs(told.probability - p) for told, (_, p) in zip(found, expected, strict=True)) < 1e-4
    assert [told.language for told in found[:8]] == ["en", "de", "fr", "es", "zh", "ja", "ar", "ru"]


def test_the_batch_a_text_comes_in_does_not_matter(monkeypatch) -> None:
    texts, model = make_texts(), Languages()
    together = model.tell(texts)
    monkeypatch.setattr(languages, "_GROUP_BYTES", 2000)
    apart = model.tell(texts)
    assert [told.language for told in apart] == [told.language for told in together]
    assert model.tell([]) == []
