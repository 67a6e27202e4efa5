"""Caption metrics with several references: BLEU, ROUGE-L and CIDEr-D, as in the COCO caption evaluation.

A corpus is a list of (candidate, references), where each caption is a list of tokens. Tokens come from Stanford's PTB
tokenizer if Java and pycocoevalcap are installed, which also compute METEOR; else they are words, with other scores.
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
"""Standard deviation, in words, of CIDEr-D's penalty for length differences."""


def bleu(corpus: Corpus) -> dict[str, float]:
    """Compute BLEU-1 to BLEU-4 of a corpus, 0 to 1; the reference length is the closest one, the shorter in a tie."""
    length = reference_length = 0
    matches, possible = Counter[int](), Counter[int]()
    for candidate, references in corpus:
        length += len(candidate)
        reference_length += min((abs(len(r) - len(candidate)), len(r)) for r in references)[1]
        for order in ORDERS:
            counts = _ngrams(candidate, order)
            limits: Counter[Ngram] = Counter()
            for reference in references:
                limits |= _ngrams(reference, order)
            matches[order] += (counts & limits).total()
            possible[order] += counts.total()
    brevity = min(1.0, math.exp(1 - reference_length / length)) if length else 0.0
    scores, product = {}, 1.0
    for order in ORDERS:
        product *= matches[order] / possible[order] if possible[order] else 0.0
        scores[f"BLEU-{order}"] = brevity * product ** (1 / order)
    return scores


def rouge_l(candidate: Tokens, references: Sequence[Tokens]) -> float:
    """Compute ROUGE-L of a caption, 0 to 1, from the best precision and the best recall over all references."""
    if not candidate:
        return 0.0
    common = [_common_subsequence(candidate, reference) for reference in references]
    precision = max(common) / len(candidate)
    recall = max((shared / len(r) for shared, r in zip(common, references, strict=True) if r), default=0.0)
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision) if recall else 0.0


def cider(corpus: Corpus) -> list[float]:
    """Compute CIDEr-D of each caption, 0 to 10; that of the corpus is the mean. IDF weights are from its references."""
    documents: Counter[Ngram] = Counter()
    for _, references in corpus:
        documents.update({ngram for reference in references for order in ORDERS for ngram in _ngrams(reference, order)})
    rarity = {ngram: math.log(len(corpus)) - math.log(count) for ngram, count in documents.items()}
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
    """Cosine similarity, with each entry of `own` clipped to that of `other`."""
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
    """Split a text into lower-case words without punctuation. Unlike in PTB, `man's` is one word."""
    return re.findall(r"\w+(?:[-']\w+)*", text.lower())


def has_ptb() -> bool:
    """Return whether Java and pycocoevalcap are installed."""
    return shutil.which("java") is not None and find_spec("pycocoevalcap") is not None


def ptb(texts: Sequence[str]) -> list[list[str]]:
    """Tokenize texts with Stanford's PTB tokenizer, without punctuation. Requires `has_ptb`."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    # The tokenizer expects one non-empty line per text.
    lines = {place: [{"caption": " ".join(text.split()) or "."}] for place, text in enumerate(texts)}
    tokens: Mapping[int, list[str]] = PTBTokenizer().tokenize(lines)
    return [tokens[place][0].split() for place in lines]


def meteor(corpus: Corpus) -> float:
    """Compute METEOR 1.5 of a corpus, 0 to 1. Requires `has_ptb`."""
    from pycocoevalcap.meteor.meteor import Meteor

    candidates = {place: [" ".join(candidate)] for place, (candidate, _) in enumerate(corpus)}
    references = {place: [" ".join(tokens) for tokens in captions] for place, (_, captions) in enumerate(corpus)}
    scorer: Any = Meteor()
    return float(scorer.compute_score(references, candidates)[0])


def caption_scores(
    candidates: Sequence[str], references: Sequence[Sequence[str]], tokenizer: Literal["ptb", "words"]
) -> dict[str, float]:
    """Compute all metrics of a corpus.

    Args:
        candidates: Generated captions.
        references: References of each caption.
        tokenizer: Tokenizer of captions; `ptb` requires `has_ptb`.

    Returns:
        Value by metric: CIDEr from 0 to 10, the others from 0 to 1; METEOR only with the tokenizer `ptb`.
    """
    texts = [*candidates, *(text for captions in references for text in captions)]
    tokens = iter(ptb(texts) if tokenizer == "ptb" else map(words, texts))
    own = [next(tokens) for _ in candidates]
    corpus = [
        (candidate, [next(tokens) for _ in captions]) for candidate, captions in zip(own, references, strict=True)
    ]
    scores = {
        "CIDEr": fmean(cider(corpus)),
        **bleu(corpus),
        "ROUGE-L": fmean(rouge_l(candidate, captions) for candidate, captions in corpus),
    }
    return {**scores, "METEOR": meteor(corpus)} if tokenizer == "ptb" else scores
