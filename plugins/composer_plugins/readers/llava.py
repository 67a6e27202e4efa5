"""LLaVA-style records to samples: JSON Lines, a JSON list, or parquet.

    {"id": "7", "video": "clips/7.mp4", "conversations": [
        {"from": "human", "value": "<video>\nWhat moves?"}, {"from": "gpt", "value": "A red ball."}]}

`image` and `video`, or `images` and `videos`, hold a path or a list of paths, relative to `media_root` or to the data
file's folder; for an image, {"bytes": ..., "path": NAME} may hold the file itself, as parquet does. `<image>` and
`<video>` in a turn say where they belong; media that no turn names come first in the first user turn. `start` and `end`
(seconds) cut a segment out of every video of the record. `system_prompt` or `system` opens a conversation that has no
system turn of its own. `loss` or `weight` of a turn, 0 or 1, says whether an answer is trained on. All other keys go to
`Sample.meta`; media under a key that is not read are an error.

So are written LLaVA's own sets, ShareGPT4V, ALLaVA, Cambrian, M4-Instruct (`sample_id`, a list of images),
LLaVA-OneVision (parquet with the images inside) and LLaVA-Video-178K, whose `<image>` names a video. An image that is
"" or null is none: a record of text alone.
"""

from collections.abc import Mapping
from typing import Any

from composer.errors import DataError
from composer.sample import Media
from composer_plugins.readers.conversations import (
    KEYS,
    LOSS,
    ConversationReader,
    Turn,
    list_of,
    located,
    loss_of,
    role_of,
)
from composer_plugins.readers.media import MediaRoot, refuse_unread


class LlavaReader(ConversationReader):
    """Conversations in LLaVA's layout."""

    read = KEYS | {"conversations"}
    user = "human"

    def turns(self, record: Mapping[str, Any], root: MediaRoot) -> tuple[list[Turn], list[Media]]:
        """The record's turns, which hold no media."""
        turns = []
        for number, turn in enumerate(list_of(record, "conversations"), 1):
            with located(f'"conversations", turn {number}'):
                turns.append(_turn(turn))
        return turns, []


def _turn(turn: Any) -> Turn:
    if not isinstance(turn, Mapping) or not isinstance(turn.get("value"), str):
        raise DataError(f'expected {{"from": ..., "value": TEXT}}, got {turn}')
    role = role_of(turn, "from")
    refuse_unread(turn, ("from", "value", *LOSS), (), '"image" or "video" of the record')
    return Turn(role, turn["value"], loss_of(turn, role))
