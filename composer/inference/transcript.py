"""One row's answer while it is generated: whole characters, without the text that ends it."""

from composer.prompt import ChatTemplate
from composer.tokenizer import TextStream, Tokenizer


class Transcript:
    """Takes ids, gives text. Done at the tokenizer's end id, at the template's end, or after `limit` ids."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate, limit: int) -> None:
        self.done = False
        self._left = limit
        self._stream = TextStream(tokenizer)
        self._stop = template.end
        # An end that is a special token has an id and no text.
        self._ends = {(tokenizer.end_id,), tuple(tokenizer.encode(template.end))}
        self._pending = ""
        self._begun = False

    def push(self, token: int) -> str:
        """The text that is certain after this id. Text that may be the start of the end waits."""
        self._left -= 1
        if (token,) in self._ends:
            return self._finish(self._pending + self._stream.flush())
        text = self._pending + self._stream.push(token)
        if self._stop and self._stop in text:
            return self._finish(text[: text.index(self._stop)])
        if self._left < 1:
            return self._finish(text + self._stream.flush())
        held = max((n for n in range(1, len(self._stop)) if text.endswith(self._stop[:n])), default=0)
        self._pending = text[len(text) - held :]
        return self._say(text[: len(text) - held])

    def _finish(self, text: str) -> str:
        self.done = True
        return self._say(text)

    def _say(self, text: str) -> str:
        """Without the white space that opens an answer in some templates."""
        text = text if self._begun else text.lstrip()
        self._begun = self._begun or bool(text)
        return text
