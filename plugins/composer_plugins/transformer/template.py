"""Chat template of a pretrained model's tokenizer."""

import re
from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile
from typing import Any

from composer.errors import DataError
from composer.prompt import Frame, Role, Template, distinct_lines
from composer_plugins.transformer.control import control_tokens, names_pattern

CONTENT = "cQ{}zContentOfTurnz{}Qc"
"""Placeholder for the content of a turn in a rendered conversation, which templates do not change or repeat."""

DATE = re.compile(r"strftime_now\((['\"])(.*?)\1\)")


class OwnTemplate(Template):
    """Jinja template of a tokenizer, rendered around placeholders for contents.

    The text between contents only depends on the roles, and is rendered once per sequence of roles.
    """

    special = True

    def __init__(self, tokenizer: Any) -> None:
        """Render the template for the common sequences of roles.

        Args:
            tokenizer: Tokenizer of transformers.

        Raises:
            DataError: If the template cannot render two turns, or answers have no common start or end.
        """
        self._tokenizer = tokenizer
        # Dates are that of the start, so that samples do not change during a run.
        now = datetime.now()
        self.source = DATE.sub(lambda match: repr(now.strftime(match[2])), tokenizer.get_chat_template())
        self._names = names_pattern(control_tokens(tokenizer))
        self._rendered: dict[tuple[tuple[Role, ...], bool], list[str]] = {}
        _, opening, last = self._around(("user", "assistant"), answer=False)
        middle = self._around(("user", "assistant", "user"), answer=False)[2]
        closing = self._common(middle, last)
        self.end = closing.rstrip() or closing
        if not self.end:
            raise DataError(
                f"the model's chat template writes {middle!r} after an answer and {last!r} after the last one, "
                "expected a common start that ends an answer: change it in a local copy of the model"
            )
        self.answer_lead = self._lead(("user",), opening)
        self.takes_system = self._renders(("system", "user"))
        self._marks = distinct_lines(text for text in self._between() if not self._names.search(text))

    @property
    def marks(self) -> tuple[str, ...]:
        return self._marks

    def frames(self, roles: Sequence[Role], *, answer: bool) -> list[Frame]:
        strings = self._around(tuple(roles), answer=answer)
        frames = []
        for place, (role, before) in enumerate(zip(roles, strings, strict=False)):
            if place and roles[place - 1] == "assistant":
                before = before.removeprefix(self.end)
            lead, end = "", ""
            if role == "assistant":
                lead, end = self._lead(tuple(roles[:place]), strings[place]), self.end
                before = before.removesuffix(lead)
                if not strings[place + 1].startswith(end):
                    raise DataError(
                        f"the model's chat template writes {strings[place + 1]!r} after turn {place + 1} of turns of "
                        f"{', '.join(roles)}, expected the end of an answer, {end!r}"
                    )
            frames.append(Frame(before, lead, end))
        if frames:
            frames[-1] = frames[-1]._replace(after=strings[-1].removeprefix(frames[-1].end))
        return frames

    def _lead(self, roles: tuple[Role, ...], before: str) -> str:
        """Text that answers to turns of these roles start with: the part of the text before them that prompts lack."""
        try:
            prompt = self._around(roles, answer=True)[-1]
        except DataError:  # an answer without a question
            return ""
        if not before.startswith(prompt):
            raise DataError(
                f"the model's chat template ends a prompt with {prompt!r} but writes {before!r} before an answer, so "
                "generation would start with text that is not trained on: change it in a local copy of the model"
            )
        return before.removeprefix(prompt)

    def _around(self, roles: tuple[Role, ...], *, answer: bool) -> list[str]:
        """Return the strings before, between and after contents of these roles."""
        key = roles, answer
        if key not in self._rendered:
            self._rendered[key] = self._render(roles, answer)
        return self._rendered[key]

    def _render(self, roles: tuple[Role, ...], answer: bool) -> list[str]:
        contents = [CONTENT.format(place, place) for place in range(len(roles))]
        turns = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
        what = f"the model's chat template cannot be used for turns of {', '.join(roles) or 'no role'}"
        try:
            text = self._tokenizer.apply_chat_template(
                turns, chat_template=self.source, tokenize=False, add_generation_prompt=answer
            )
        except Exception as error:  # templates raise their own errors
            raise DataError(f"{what}: {error}") from error
        strings = []
        for content in contents:
            before, match, text = text.partition(content)
            if not match or content in text:
                raise DataError(f"{what}: it drops, repeats or reorders contents")
            strings.append(before)
        return [*strings, text]

    def _renders(self, roles: tuple[Role, ...]) -> bool:
        try:
            self._around(roles, answer=False)
        except DataError:
            return False
        return True

    def _common(self, first: str, second: str) -> str:
        """Return the common prefix, which does not split special tokens."""
        atoms = re.compile(f"{self._names.pattern}|.", re.DOTALL)
        pairs = zip(atoms.findall(first), atoms.findall(second), strict=False)
        return "".join(atom for atom, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def _between(self) -> list[str]:
        """Return the end of an answer, and all strings between two contents."""
        turns: tuple[Role, ...] = ("user", "assistant", "user")
        result = [self.end]
        for roles in (turns, ("system", *turns)):
            try:
                result += self._around(roles, answer=True)[1:]
            except DataError:
                continue
        return result
