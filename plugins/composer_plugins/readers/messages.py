"""Chat messages to samples, as LLaMA-Factory, ms-swift, XTuner, TRL and transformers write them: JSON or parquet.

    {"messages": [{"role": "user", "content": "<image>What is it?"}, {"role": "assistant", "content": "A cat."}],
     "images": ["cat.jpg"]}
    {"messages": [
        {"role": "user", "content": [{"type": "image", "image": "cat.jpg"}, {"type": "text", "text": "What is it?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]}]}

A content is a text or a list of parts: `text`, `image`, `video`, `image_url`, `video_url`. A part holds its media item
under `image`, `video`, `url`, `path`, `base64` or, as OpenAI writes, `image_url: {"url": ...}`; one that holds none
stands for the next of the record's `images` or `videos`. Of a video, `video_start` and `video_end` (seconds) cut out a
segment. Texts may name the places of media: `<image>`, `<video>`, and XTuner's `<IMG_CONTEXT>` and `<VIDEO_CONTEXT>`.

`system` opens a conversation that has no system turn. TRL's `prompt` and `completion` are lists of messages, of which
the completion is trained on. `loss` or `weight` of a message, 0 or 1, says whether an answer is trained on. Sound,
tools and grounding are errors. All other keys go to `Sample.meta`; media under a key that is not read are an error.
"""

import re
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from composer.errors import DataError
from composer.sample import Media
from composer_plugins.readers.conversations import (
    KEYS,
    LOSS,
    PLACEHOLDER,
    ConversationReader,
    Turn,
    list_of,
    located,
    loss_of,
    role_of,
)
from composer_plugins.readers.media import Kind, MediaRoot, refuse_unread, segment_of

KINDS: dict[str, Kind] = {"image": "image", "image_url": "image", "video": "video", "video_url": "video"}
SOUND = ("audio", "audio_url", "input_audio")
XTUNER = {"<IMG_CONTEXT>": "<image>", "<VIDEO_CONTEXT>": "<video>"}
UNREAD = {"tools": "definitions of tools", "objects": "boxes of grounding"}


class MessagesReader(ConversationReader):
    """Conversations as chat messages."""

    read = KEYS | {"messages", "prompt", "completion"}
    user = "user"

    def turns(self, record: Mapping[str, Any], root: MediaRoot) -> tuple[list[Turn], list[Media]]:
        """The record's turns, and the media in their parts."""
        for key, name in UNREAD.items():
            if record.get(key):
                raise DataError(f'"{key}": {name} are not read; write them as text and remove the key')
        turns: list[Turn] = []
        media: list[Media] = []
        trl = record.get("messages") is None and record.get("completion") is not None
        for key in ("prompt", "completion") if trl else ("messages",):
            for number, message in enumerate(list_of(record, key), 1):
                with located(f'"{key}", turn {number}'):
                    turn = _turn(message, root, media)
                turns.append(turn._replace(loss=turn.loss and key != "prompt"))
        return turns, media


def _turn(message: Any, root: MediaRoot, media: list[Media]) -> Turn:
    """A message's turn; the media in its parts are added to `media`."""
    if not isinstance(message, Mapping):
        raise DataError(f'expected {{"role": ..., "content": ...}}, got {message!r}')
    speaker, key = ("from", "value") if message.get("role") is None and "from" in message else ("role", "content")
    role = role_of(message, speaker)
    refuse_unread(message, (speaker, key, *LOSS), (), 'a part of the content, or "images" or "videos" of the record')
    content = message.get(key)
    parts = [content] if isinstance(content, str) else content
    if not isinstance(parts, list):
        raise DataError(f'"{key}": expected text or a list of parts, got {type(content).__name__}')
    pieces = []
    for number, part in enumerate(parts, 1):
        with located(f"part {number}") if parts is content else nullcontext():
            pieces.append(_piece(part, root, media))
    named = {name for text, is_media in pieces if not is_media for name in PLACEHOLDER.findall(text)}
    text = "".join(text for text, is_media in pieces if not is_media or text not in named)
    return Turn(role, text, loss_of(message, role))


def _piece(part: Any, root: MediaRoot, media: list[Media]) -> tuple[str, bool]:
    """A part's text, or its media's placeholder and True; what it holds is added to `media`."""
    part = {"type": "text", "text": part} if isinstance(part, str) else part
    if not isinstance(part, Mapping):
        raise DataError(f'expected {{"type": ..., ...}}, got {part!r}')
    name = part.get("type") or next((key for key in ("text", *KINDS) if part.get(key)), None)
    if name == "text":
        if not isinstance(part.get("text"), str):
            raise DataError(f'"text": expected text, got {part.get("text")!r}')
        refuse_unread(part, ("type", "text"), (), 'a part of its own, {"type": "image", "image": PATH}')
        return re.sub("|".join(XTUNER), lambda match: XTUNER[match[0]], part["text"]), False
    if name in SOUND:
        raise DataError(f"{name}: sound is not read yet; remove the part to train without it")
    if not isinstance(name, str) or name not in KINDS:
        raise DataError(f'"type" is {name!r}, expected one of text, {", ".join(KINDS)}')
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
