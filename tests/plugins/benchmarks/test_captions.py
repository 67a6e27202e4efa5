"""Metrics of captions: by hand, and beside the COCO evaluation's own code where it is installed."""

import math
import random
from typing import Any

import pytest

from composer_plugins.benchmarks.captions import bleu, caption_scores, cider, has_ptb, meteor, ptb, rouge_l, words


def test_bleu_by_hand() -> None:
    """6 of 7 words, 3 of 6 pairs (`the cat`, `sat on`, `on the`), 1 of 5 triples (`sat on the`), no four in a row."""
    candidate = ["the", "cat", "the", "sat", "on", "the", "mat"]
    references = [["the", "cat", "is", "sat", "on", "the", "rug"], ["a", "mat"]]
    scores = bleu([(candidate, references)])
    assert scores["BLEU-1"] == pytest.approx(6 / 7)  # `the` three times, twice in a reference
    assert scores["BLEU-2"] == pytest.approx(math.sqrt(6 / 7 * 3 / 6))
    assert scores["BLEU-3"] == pytest.approx((6 / 7 * 3 / 6 * 1 / 5) ** (1 / 3))
    assert scores["BLEU-4"] == 0.0


def test_a_short_candidate_pays_for_its_length_beside_the_closest_reference() -> None:
    corpus = [(["a", "b"], [["a", "b", "c"], ["a", "b", "c", "d"]])]
    assert bleu(corpus)["BLEU-1"] == pytest.approx(math.exp(1 - 3 / 2))
    assert bleu([(["a", "b"], [["a"], ["a", "b", "c"]])])["BLEU-1"] == 1.0  # both are one away: the shorter one


def test_rouge_l_by_hand() -> None:
    """`police killed gunman` in order: `police`, `gunman`; recall is of the reference with the most of it."""
    score = rouge_l(["police", "kill", "the", "gunman"], [["police", "killed", "the", "gunman"], ["gunman", "police"]])
    precision, recall = 3 / 4, 3 / 4
    assert score == pytest.approx((1 + 1.44) * precision * recall / (recall + 1.44 * precision))
    assert rouge_l([], [["a"]]) == 0.0
    assert rouge_l(["b"], [["a"]]) == 0.0


def test_cider_by_hand() -> None:
    """Two captions of two words: each unigram and the pair are in one of two, so that all weigh log 2."""
    corpus = [(["red", "cup"], [["red", "cup"]]), (["blue", "dog"], [["blue", "cat"]])]
    first, second = cider(corpus)
    # Orders 3 and 4 are empty: two of four cosines are 1.
    assert first == pytest.approx(10 * (1 + 1) / 4)
    # `blue` is shared, `dog` is in no reference and weighs log 2 too: a cosine of 1/2 for single words, 0 for the pair.
    assert second == pytest.approx(10 * (1 / 2) / 4)


def test_ciders_length_penalty() -> None:
    corpus = [(["a"] * 1 + ["x"] * 6, [["a"]]), (["b"], [["b"]])]
    weight = math.log(2)
    cosine = weight**2 / (math.sqrt(weight**2 + 36 * weight**2) * weight)
    assert cider(corpus)[0] == pytest.approx(10 * cosine * math.exp(-(6**2) / 72) / 4)


def test_words_are_lower_case_and_without_punctuation() -> None:
    assert words("A man's T-shirt, isn't it?  Très!") == ["a", "man's", "t-shirt", "isn't", "it", "très"]
    assert words("...") == []


def captions(seed: int) -> list[tuple[list[str], list[list[str]]]]:
    """Captions that are one of their references, with a few words changed."""
    draw = random.Random(seed)
    vocabulary = ["a", "the", "man", "dog", "runs", "over", "grass", "red", "and", "jumps"]
    corpus = []
    for _ in range(30):
        references = [draw.choices(vocabulary, k=draw.randint(1, 12)) for _ in range(draw.randint(1, 4))]
        changed = [word if draw.random() < 0.7 else draw.choice(vocabulary) for word in draw.choice(references)]
        corpus.append((changed[: draw.randint(1, 12)], references))
    return corpus


@pytest.mark.parametrize("seed", range(3))
def test_the_same_as_cocos_code(seed: int) -> None:
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    corpus = captions(seed)
    own: dict[int, Any] = {place: [" ".join(candidate)] for place, (candidate, _) in enumerate(corpus)}
    others = {place: [" ".join(r) for r in references] for place, (_, references) in enumerate(corpus)}
    theirs, _ = Bleu(4).compute_score(others, own, verbose=0)
    assert list(bleu(corpus).values()) == pytest.approx(theirs, abs=1e-6)
    _, each = Cider().compute_score(others, own)
    assert cider(corpus) == pytest.approx(list(each), abs=1e-6)
    _, each = Rouge().compute_score(others, own)
    assert [rouge_l(*caption) for caption in corpus] == pytest.approx(list(each), abs=1e-6)


def test_all_metrics_of_a_corpus() -> None:
    references = [["A man runs.", "The man is running fast."], ["A dog jumps over a red fence."]]
    scores = caption_scores(["a man runs", "a dog jumps over a red fence!"], references, "words")
    assert set(scores) == {"CIDEr", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L"}
    assert scores["BLEU-4"] == scores["ROUGE-L"] == 1.0
    assert 1 < scores["CIDEr"] <= 10


@pytest.mark.skipif(not has_ptb(), reason="needs Java and pycocoevalcap")
def test_ptb_tokens_and_meteor() -> None:
    assert ptb(["A man's T-shirt,\nisn't it?", "", "The end."]) == [
        ["a", "man", "'s", "t-shirt", "is", "n't", "it"],
        [],
        ["the", "end"],
    ]
    same, other = ["a", "man", "runs"], ["a", "dog", "sleeps"]
    assert meteor([(same, [same, other])]) == pytest.approx(1.0)


def test_references_without_a_word_score_nothing() -> None:
    assert caption_scores(["a dog"], [["...", "!"]], "words")["ROUGE-L"] == 0
