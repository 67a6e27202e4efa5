"""Text of one row's answer during generation: complete characters, without the template's opening and end."""

from composer.prompt import Piece, Template
from composer.tokenizer import TextStream, Tokenizer, encode_pieces


class Transcript:
    """Converts ids to text. Done at the tokenizer's end id, at the template's end, or after `limit` ids."""

    def __init__(self, tokenizer: Tokenizer, template: Template, limit: int) -> None:
        self.done = False
        self._left = limit
        self._stream = TextStream(tokenizer)
        marks = (
            (Piece("a"), Piece(template.end, mark=template.special)),
            (Piece(template.answer_lead, mark=template.special),),
        )
        end, lead = (encode_pieces(tokenizer, run)[-1] for run in marks)
        # A special token has an id but no text (a single space of SentencePiece has none either).
        special = next((index for index, i in enumerate(end) if not tokenizer.decode([i, i])), None)
        self._ends = {tokenizer.end_id} if special is None else {tokenizer.end_id, end[special]}
        # Text before the special token does not end the answer; it is only held back.
        before = end[:special]
        waits = tokenizer.decode(before + before)[len(tokenizer.decode(before)) :]
        self._stop = template.end if special is None else waits
        self._stops = special is None
        self._lead = tokenizer.decode(lead).strip()
        self._pending = ""
        self._opening = ""
        self._begun = False

    def push(self, token: int) -> str:
        """Add an id. Returns the text that is certain; text that may be the start of the end is held back."""
        self._left -= 1
        if token in self._ends:
            text = self._pending + self._stream.flush()
            return self._finish(text if self._stops else text.removesuffix(self._stop))
        text = self._pending + self._stream.push(token)
        if self._stops and self._stop in text:
            return self._finish(text[: text.index(self._stop)])
        if self._left < 1:
            return self._finish(text + self._stream.flush())
        longest = len(self._stop) - self._stops
        pending = max((n for n in range(1, longest + 1) if text.endswith(self._stop[:n])), default=0)
        self._pending = text[len(text) - pending :]
        return self._emit(text[: len(text) - pending])

    def _finish(self, text: str) -> str:
        self.done = True
        return self._emit(text)

    def _emit(self, text: str) -> str:
        """The text without the opening of some templates: white space, an empty thinking block."""
        if self._begun:
            return text
        text = (self._opening + text).lstrip()
        if self._lead and text.startswith(self._lead):
            text, self._lead = text.removeprefix(self._lead).lstrip(), ""
        waits = self._lead.startswith(text) and not self.done
        self._opening, self._begun = (text, False) if waits else ("", bool(text))
        return "" if waits else text
