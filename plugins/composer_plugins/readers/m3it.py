"""M3IT's records to samples, as its own loader script gives them: JSON Lines or parquet with the pictures inside.

{"instruction": "Answer the question.", "inputs": "What moves?", "image_base64_str": ["/9j/..."], "outputs": "A ball."}

The files on the hub hold no such records: keys differ from set to set, and the loader draws instructions from lists.
What `datasets` (below 4.0) loads from "MMInstruction/M3IT" and writes with `to_json` or `to_parquet` is read here.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from composer.errors import DataError
from composer.sample import Media, Message, Sample
from composer_plugins.readers.media import refuse_unread
from composer_plugins.readers.records import RecordReader, text_of

KEYS = {"id", "instruction", "inputs", "image_base64_str", "outputs"}


class M3ITReader(RecordReader):
    """Pictures, then instruction and inputs, are the question; the outputs are the answer. Other keys go to `meta`."""

    def sample(self, record: Mapping[str, Any], index: int) -> Sample:
        inputs = record.get("inputs") or ""
        if not isinstance(inputs, str):
            raise DataError(f'"inputs": expected text, got {inputs!r}')
        question = "\n\n".join(part.strip() for part in (text_of(record, "instruction"), inputs) if part.strip())
        pictures = self._pictures(record, index)
        refuse_unread(record, KEYS, pictures, '"image_base64_str"')
        messages = (
            Message("user", (*pictures, question)),
            Message("assistant", (text_of(record, "outputs"),)),
        )
        meta = {key: value for key, value in record.items() if key not in KEYS}
        file, _ = self.where(index)
        return Sample(self.id_of(record, index, "id"), str(file), messages, meta)

    def _pictures(self, record: Mapping[str, Any], index: int) -> list[Media]:
        given = record.get("image_base64_str") or []
        given = [given] if isinstance(given, str) else given
        if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
            raise DataError(f'"image_base64_str": expected a list of texts, got {type(given).__name__}')
        file, row = self.where(index)
        pictures = []
        for number, text in enumerate(given, 1):
            try:
                data = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError) as error:
                raise DataError(f'"image_base64_str", picture {number}: not base64: {error}') from None
            pictures.append(Media("image", f"{file}, record {row + 1}, picture {number}", data=data))
        return pictures
