"""Reader of M3IT as returned by its loader script: JSON Lines or parquet with embedded images.

{"instruction": "Answer the question.", "inputs": "What moves?", "image_base64_str": ["/9j/..."], "outputs": "A ball."}

The files on the hub have a different format: keys differ between subsets, and the loader samples instructions from
lists. Load "MMInstruction/M3IT" with `datasets` (below 4.0) and write it with `to_json` or `to_parquet`.
"""

import base64
import binascii
from collections.abc import Mapping

from composer.errors import DataError
from composer.sample import Media, Message, Sample
from composer_plugins.readers.media import refuse_unread
from composer_plugins.readers.records import RecordReader, text_of

KEYS = {"id", "instruction", "inputs", "image_base64_str", "outputs"}


class M3ITReader(RecordReader):
    """Samples with images, instruction and inputs as the question and outputs as the answer.

    Other keys go to `meta`.
    """

    def sample(self, record: Mapping[str, object], index: int) -> Sample:
        """Convert a record to a sample."""
        inputs = record.get("inputs") or ""
        if not isinstance(inputs, str):
            raise DataError(f'"inputs": got {inputs!r}, expected text')
        question = "\n\n".join(part.strip() for part in (text_of(record, "instruction"), inputs) if part.strip())
        images = self._images(record, index)
        refuse_unread(record, KEYS, images, '"image_base64_str"')
        messages = (
            Message("user", (*images, question)),
            Message("assistant", (text_of(record, "outputs"),)),
        )
        meta = {key: value for key, value in record.items() if key not in KEYS}
        file, _ = self.file_of(index)
        return Sample(self.id_of(record, index, "id"), str(file), messages, meta)

    def _images(self, record: Mapping[str, object], index: int) -> list[Media]:
        value = record.get("image_base64_str") or []
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise DataError(f'"image_base64_str": got {type(texts).__name__}, expected a list of texts')
        file, row = self.file_of(index)
        images = []
        for number, text in enumerate(texts, 1):
            try:
                data = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError) as error:
                raise DataError(f'"image_base64_str", image {number}: not base64: {error}') from None
            images.append(Media("image", f"{file}, record {row + 1}, image {number}", data=data))
        return images
