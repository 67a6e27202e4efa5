"""Reader of LLaVA-style conversations in JSON Lines, a JSON list, or parquet.

    {"id": "7", "video": "clips/7.mp4", "conversations": [
        {"from": "human", "value": "<video>\nWhat moves?"}, {"from": "gpt", "value": "A red ball."}]}

`image` and `video`, or `images` and `videos`, contain a path or a list of paths, relative to `media_root` or to the
folder of the data file. An image can also be {"bytes": ..., "path": NAME} with the encoded file, as in parquet.
`<image>` and `<video>` in a turn mark the positions of media; without them, media precede the text of the first user
turn. `start` and `end` (seconds) select a segment of every video of the record. `system_prompt` or `system` is the
system text of a conversation without a system turn. `loss` or `weight` of a turn (0 or 1) selects the answers to train
on. All other keys go to `Sample.meta`; media under an unused key are an error.

The format is that of LLaVA's data sets, ShareGPT4V, ALLaVA, Cambrian, M4-Instruct (`sample_id`, a list of images),
LLaVA-OneVision (parquet with embedded images) and LLaVA-Video-178K, which uses `<image>` for videos. An image that is
"" or null is ignored: the record has text only.
"""

from collections.abc import Mapping

from composer.errors import DataError
from composer.sample import Media
from composer_plugins.readers.conversations import (
    KEYS,
    LOSS,
    ConversationReader,
    Turn,
    loss_of,
    prefix_errors,
    role_of,
    turns_at,
)
from composer_plugins.readers.media import MediaRoot, refuse_unread


class LlavaReader(ConversationReader):
    """Conversations in LLaVA's format."""

    read = KEYS | {"conversations"}
    user = "human"

    def turns(self, record: Mapping[str, object], root: MediaRoot) -> tuple[list[Turn], list[Media]]:
        """Parse the turns of a record, which contain no media themselves."""
        turns = []
        for number, turn in enumerate(turns_at(record, "conversations"), 1):
            with prefix_errors(f'"conversations", turn {number}'):
                turns.append(_turn(turn))
        return turns, []


def _turn(turn: object) -> Turn:
    if not isinstance(turn, Mapping) or not isinstance(turn.get("value"), str):
        raise DataError(f'got {turn}, expected {{"from": ..., "value": TEXT}}')
    role = role_of(turn, "from")
    refuse_unread(turn, ("from", "value", *LOSS), (), '"image" or "video" of the record')
    return Turn(role, turn["value"], loss_of(turn, role))
