"""Caption metrics with several references: BLEU, ROUGE-L and CIDEr-D, as in the COCO caption evaluation.

A corpus is a list of (candidate, references), each a list of tokens. Captions are tokenized by Stanford's PTB tokenizer
where Java and pycocoevalcap are installed, which then give METEOR too, or else into words, which is not the same.
"""

import math
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from statistics import fmean
from typing import Any, Literal

Tokens = Sequence[str]
Corpus = Sequence[tuple[Tokens, Sequence[Tokens]]]
Ngram = tuple[str, ...]
ORDERS = (1, 2, 3, 4)
BETA = 1.2
"""Weight of recall in COCO's ROUGE-L."""
SIGMA = 6.0
"""Deviation of CIDEr-D's penalty for a length that differs from the reference's, in words."""


def bleu(corpus: Corpus) -> dict[str, float]:
    """BLEU-1 to BLEU-4 of a corpus, 0 to 1. The length of reference is the closest one, of two the shorter."""
    length = reference_length = 0
    found, possible = Counter[int](), Counter[int]()
    for candidate, references in corpus:
        length += len(candidate)
        reference_length += min((abs(len(r) - len(candidate)), len(r)) for r in references)[1]
        for order in ORDERS:
            counts = _ngrams(candidate, order)
            most: Counter[Ngram] = Counter()
            for reference in references:
                most |= _ngrams(reference, order)
            found[order] += (counts & most).total()
            possible[order] += counts.total()
    brevity = min(1.0, math.exp(1 - reference_length / length)) if length else 0.0
    scores, product = {}, 1.0
    for order in ORDERS:
        product *= found[order] / possible[order] if possible[order] else 0.0
        scores[f"BLEU-{order}"] = brevity * product ** (1 / order)
    return scores


def rouge_l(candidate: Tokens, references: Sequence[Tokens]) -> float:
    """ROUGE-L of a caption, 0 to 1: of the best precision and the best recall over all references."""
    if not candidate:
        return 0.0
    common = [_common_subsequence(candidate, reference) for reference in references]
    precision = max(common) / len(candidate)
    recall = max((shared / len(r) for shared, r in zip(common, references, strict=True) if r), default=0.0)
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision) if recall else 0.0


def cider(corpus: Corpus) -> list[float]:
    """CIDEr-D of each caption, 0 to 10; the corpus' is their mean. Weights come from the references of the corpus."""
    seen: Counter[Ngram] = Counter()
    for _, references in corpus:
        seen.update({ngram for reference in references for order in ORDERS for ngram in _ngrams(reference, order)})
    rarity = {ngram: math.log(len(corpus)) - math.log(count) for ngram, count in seen.items()}
    unseen = math.log(len(corpus))

    def weights(tokens: Tokens, order: int) -> dict[Ngram, float]:
        return {ngram: count * rarity.get(ngram, unseen) for ngram, count in _ngrams(tokens, order).items()}

    scores = []
    for candidate, references in corpus:
        own = {order: weights(candidate, order) for order in ORDERS}
        total = 0.0
        for reference in references:
            penalty = math.exp(-((len(candidate) - len(reference)) ** 2) / (2 * SIGMA**2))
            total += penalty * sum(_similarity(own[order], weights(reference, order)) for order in ORDERS)
        scores.append(10 * total / len(ORDERS) / len(references))
    return scores


def _similarity(own: Mapping[Ngram, float], other: Mapping[Ngram, float]) -> float:
    """The cosine, with each entry of `own` clipped to that of `other`."""
    norm = math.sqrt(math.fsum(v * v for v in own.values()) * math.fsum(v * v for v in other.values()))
    shared = math.fsum(min(value, other[ngram]) * other[ngram] for ngram, value in own.items() if ngram in other)
    return shared / norm if norm else 0.0


def _ngrams(tokens: Tokens, order: int) -> Counter[Ngram]:
    return Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1))


def _common_subsequence(one: Tokens, other: Tokens) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for token in one:
        diagonal = 0
        for place, against in enumerate(other, start=1):
            above = row[place]
            row[place] = diagonal + 1 if token == against else max(above, row[place - 1])
            diagonal = above
    return row[-1]


def words(text: str) -> list[str]:
    """Lower-case words without punctuation. Not PTB: `man's` stays one word."""
    return re.findall(r"\w+(?:[-']\w+)*", text.lower())


def has_ptb() -> bool:
    """Return whether Java and pycocoevalcap are installed."""
    return shutil.which("java") is not None and find_spec("pycocoevalcap") is not None


def ptb(texts: Sequence[str]) -> list[list[str]]:
    """Tokens of each text by Stanford's PTB tokenizer, without punctuation. Needs `has_ptb`."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    # One text is one line for the tokenizer, which an empty one must not upset.
    lines = {place: [{"caption": " ".join(text.split()) or "."}] for place, text in enumerate(texts)}
    found: Mapping[int, list[str]] = PTBTokenizer().tokenize(lines)
    return [found[place][0].split() for place in lines]


def meteor(corpus: Corpus) -> float:
    """METEOR 1.5 of a corpus, 0 to 1. Needs `has_ptb`."""
    from pycocoevalcap.meteor.meteor import Meteor

    candidates = {place: [" ".join(candidate)] for place, (candidate, _) in enumerate(corpus)}
    references = {place: [" ".join(tokens) for tokens in given] for place, (_, given) in enumerate(corpus)}
    scorer: Any = Meteor()
    return float(scorer.compute_score(references, candidates)[0])


def caption_scores(
    candidates: Sequence[str], references: Sequence[Sequence[str]], tokenizer: Literal["ptb", "words"]
) -> dict[str, float]:
    """All metrics of a corpus; METEOR with the PTB tokenizer alone. CIDEr is from 0 to 10, the others from 0 to 1."""
    texts = [*candidates, *(text for given in references for text in given)]
    tokens = iter(ptb(texts) if tokenizer == "ptb" else map(words, texts))
    own = [next(tokens) for _ in candidates]
    corpus = [(candidate, [next(tokens) for _ in given]) for candidate, given in zip(own, references, strict=True)]
    scores = {
        "CIDEr": fmean(cider(corpus)),
        **bleu(corpus),
        "ROUGE-L": fmean(rouge_l(candidate, given) for candidate, given in corpus),
    }
    return {**scores, "METEOR": meteor(corpus)} if tokenizer == "ptb" else scores
