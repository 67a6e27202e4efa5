"""A judge behind an OpenAI-compatible chat completions endpoint: OpenAI, vLLM, SGLang, llama.cpp."""

import email.utils
import http.client
import json
import os
import time
from collections.abc import Sequence
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from composer.benchmark import Reply
from composer.errors import JudgeError
from composer_plugins.benchmarks.judge import Judge, JudgeMessage, NoReply

KEY = "OPENAI_API_KEY"
BUSY = {408, 409, 425, 429}
"""Temporary HTTP statuses, in addition to those from 500."""
REFUSED = {400, 413, 422}
"""HTTP statuses of a rejected request, for example by a content filter."""


class OpenAIJudge(Judge):
    """Greedy replies of `model` at `url`/chat/completions.

    Args:
        model: Name of the model.
        url: URL of the endpoint. Its key, if any, is $OPENAI_API_KEY.
    """

    timeout: float = 60.0

    def __init__(self, model: str, url: str) -> None:
        self.model, self.url = model, f"{url.rstrip('/')}/chat/completions"

    def reply(self, messages: Sequence[JudgeMessage], max_tokens: int) -> Reply:
        chat = [{"role": message.role, "content": message.text} for message in messages]
        body = {"model": self.model, "messages": chat, "temperature": 0, "max_tokens": max_tokens}
        answer = self._post(body)
        try:
            text = answer["choices"][0]["message"]["content"]
            served = answer.get("model") or self.model
        except (KeyError, IndexError, TypeError, AttributeError):
            raise NoReply(f"{self.url} returned {str(answer)[:200]!r}, expected a chat completion") from None
        return Reply(str(text or ""), str(served))

    def _post(self, body: dict[str, object]) -> Any:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY, "").strip():  # a key from a file may end with a newline
            headers["Authorization"] = f"Bearer {key}"
        request = Request(self.url, json.dumps(body).encode(), headers)
        try:
            with urlopen(request, timeout=self.timeout) as response:
                return json.load(response)
        except HTTPError as error:
            self._raise_status(error)
        except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
            raise NoReply(f"{self.url} does not answer: {error}") from None
        except ValueError:
            raise NoReply(f"{self.url} did not return JSON") from None

    def _raise_status(self, error: HTTPError) -> None:
        """Raise the error of an HTTP status."""
        try:
            text = error.read().decode(errors="replace")[:200]
        except (OSError, http.client.HTTPException):
            text = ""
        problem = f"{self.url} returned {error.code} {error.reason}: {text}"
        if error.code in BUSY or error.code >= 500:
            raise NoReply(problem, wait=_seconds(error.headers.get("Retry-After"))) from None
        if error.code in REFUSED:
            raise NoReply(problem, again=False) from None
        raise JudgeError(f"{problem}. Check --judge-url, --judge-model and ${KEY}") from None


def _seconds(retry_after: str | None) -> float:
    """Seconds from now of the header Retry-After, a number or a date; 0 for anything else."""
    if retry_after is None:
        return 0.0
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return 0.0
