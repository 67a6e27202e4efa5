"""Reader of chat messages as written by LLaMA-Factory, ms-swift, XTuner, TRL and transformers: JSON or parquet.

    {"messages": [{"role": "user", "content": "<image>What is it?"}, {"role": "assistant", "content": "A cat."}],
     "images": ["cat.jpg"]}
    {"messages": [
        {"role": "user", "content": [{"type": "image", "image": "cat.jpg"}, {"type": "text", "text": "What is it?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]}]}

`content` is a text or a list of parts: `text`, `image`, `video`, `image_url`, `video_url`. A part has its media item
under `image`, `video`, `url`, `path`, `base64` or, as in OpenAI's format, `image_url: {"url": ...}`; a part without one
represents the next item of the record's `images` or `videos`. `video_start` and `video_end` (seconds) select a segment
of a video. Placeholders in texts mark the positions of media: `<image>`, `<video>`, and XTuner's `<IMG_CONTEXT>` and
`<VIDEO_CONTEXT>`.

`system` is the system text of a conversation without a system turn. TRL's `prompt` and `completion` are lists of
messages; only the completion is trained on. `loss` or `weight` of a message (0 or 1) selects the answers to train on.
Sound, tools and grounding are errors. All other keys go to `Sample.meta`; media under an unused key are an error.
"""

import re
from collections.abc import Mapping
from contextlib import nullcontext

from composer.errors import DataError
from composer.sample import Media
from composer_plugins.readers.conversations import (
    KEYS,
    LOSS,
    PLACEHOLDER,
    ConversationReader,
    Turn,
    loss_of,
    prefix_errors,
    role_of,
    turns_at,
)
from composer_plugins.readers.media import Kind, MediaRoot, refuse_unread, segment_of

KINDS: dict[str, Kind] = {"image": "image", "image_url": "image", "video": "video", "video_url": "video"}
SOUND = ("audio", "audio_url", "input_audio")
XTUNER = {"<IMG_CONTEXT>": "<image>", "<VIDEO_CONTEXT>": "<video>"}
UNREAD = {"tools": "tool definitions", "objects": "grounding boxes"}


class MessagesReader(ConversationReader):
    """Conversations in the format of chat messages."""

    read = KEYS | {"messages", "prompt", "completion"}
    user = "user"

    def turns(self, record: Mapping[str, object], root: MediaRoot) -> tuple[list[Turn], list[Media]]:
        """Parse the turns of a record, and the media in their parts."""
        for key, name in UNREAD.items():
            if record.get(key):
                raise DataError(f'"{key}": {name} are not supported; write them as text and remove the key')
        turns: list[Turn] = []
        media: list[Media] = []
        trl = record.get("messages") is None and record.get("completion") is not None
        for key in ("prompt", "completion") if trl else ("messages",):
            for number, message in enumerate(turns_at(record, key), 1):
                with prefix_errors(f'"{key}", turn {number}'):
                    turn = _turn(message, root, media)
                turns.append(turn._replace(loss=turn.loss and key != "prompt"))
        return turns, media


def _turn(message: object, root: MediaRoot, media: list[Media]) -> Turn:
    """Turn of a message; media of its parts are appended to `media`."""
    if not isinstance(message, Mapping):
        raise DataError(f'got {message!r}, expected {{"role": ..., "content": ...}}')
    speaker, key = ("from", "value") if message.get("role") is None and "from" in message else ("role", "content")
    role = role_of(message, speaker)
    refuse_unread(message, (speaker, key, *LOSS), (), 'a part of the content, or "images" or "videos" of the record')
    content = message.get(key)
    parts = [content] if isinstance(content, str) else content
    if not isinstance(parts, list):
        raise DataError(f'"{key}": got {type(content).__name__}, expected text or a list of parts')
    pieces = []
    for number, part in enumerate(parts, 1):
        with prefix_errors(f"part {number}") if parts is content else nullcontext():
            pieces.append(_piece(part, root, media))
    placeholders = {name for text, is_media in pieces if not is_media for name in PLACEHOLDER.findall(text)}
    text = "".join(text for text, is_media in pieces if not is_media or text not in placeholders)
    return Turn(role, text, loss_of(message, role))


def _piece(part: object, root: MediaRoot, media: list[Media]) -> tuple[str, bool]:
    """Text of a part and False, or its placeholder and True; its media item is appended to `media`."""
    part = {"type": "text", "text": part} if isinstance(part, str) else part
    if not isinstance(part, Mapping):
        raise DataError(f'got {part!r}, expected {{"type": ..., ...}}')
    name = part.get("type") or next((key for key in ("text", *KINDS) if part.get(key)), None)
    if name == "text":
        if not isinstance(part.get("text"), str):
            raise DataError(f'"text": got {part.get("text")!r}, expected text')
        refuse_unread(part, ("type", "text"), (), 'a separate part, {"type": "image", "image": PATH}')
        return re.sub("|".join(XTUNER), lambda match: XTUNER[match[0]], part["text"]), False
    if name in SOUND:
        raise DataError(f"{name}: sound is not supported; remove the part to train without it")
    if not isinstance(name, str) or name not in KINDS:
        raise DataError(f'"type": got {name!r}, expected one of text, {", ".join(KINDS)}')
    kind = KINDS[name]
    keys = (kind, f"{kind}_url", "url", "path", "base64")
    key = next((key for key in keys if part.get(key)), None)
    if key is None:
        refuse_unread(part, ("type",), (), f'"{kind}"')
    else:
        value = f"data:;base64,{part[key]}" if key == "base64" else part[key]
        number = 1 + sum(item.kind == kind for item in media)
        media.append(root.media(kind, value, key, number, *segment_of(part, "video_start", "video_end")))
    return f"<{kind}>", True
