from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from undercut.compress.linear import feature_matrix
from undercut.linear import LinearModel, Vocabulary, character_ngrams, word_ngrams

TEXTS = [
    "Where's my refund?! I sent it back",
    "CANCEL my order, cancel it NOW",
    "où est ma commande",
    "a",
    "",
    "refund refund refund",
    "order 4711 has not come",
]


def test_ngrams() -> None:
    assert list(word_ngrams("i'm ok")) == ["i", "'", "m", "ok", "i '", "' m", "m ok"]
    assert list(character_ngrams("ab")) == [" a", "ab", "b ", " ab", "ab ", " ab "]


def test_features_are_those_of_scikit_learn() -> None:
    vocabulary = Vocabulary.fit(TEXTS, minimum_documents=1)
    ours = feature_matrix(vocabulary, TEXTS).toarray()
    words = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]", strip_accents="unicode"
    )
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, strip_accents="unicode")
    theirs = np.hstack([words.fit_transform(TEXTS).toarray(), characters.fit_transform(TEXTS).toarray()])
    assert vocabulary.ngrams["word"] == words.get_feature_names_out().tolist()
    assert vocabulary.ngrams["character"] == characters.get_feature_names_out().tolist()
    assert np.abs(ours - theirs).max() < 1e-6


def test_save_and_load_score_alike(tmp_path: Path) -> None:
    vocabulary = Vocabulary.fit(TEXTS)
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(vocabulary.size, 3)).astype(np.float32)
    model = LinearModel(vocabulary, weights, np.zeros(3, np.float32), ("a", "b", "c"))
    model.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["vocabulary.json", "weights.safetensors"]
    loaded = LinearModel.load(tmp_path, ("a", "b", "c"))
    texts = [*TEXTS, "something never seen before", "🙂"]
    assert loaded.probabilities(texts) == pytest.approx(model.probabilities(texts), abs=1e-5)
    assert loaded.probabilities(texts).sum(1) == pytest.approx(np.ones(len(texts)), abs=1e-5)
    one_by_one = np.concatenate([loaded.probabilities([text]) for text in texts])
    assert np.array_equal(one_by_one, loaded.probabilities(texts))
