"""What of a conversation is trained on. No torch here."""

from composer.errors import DataError
from composer.sample import Message, Sample


def drop_unanswered_turns(sample: Sample) -> Sample:
    """A sample without its trailing user turns, which no answer follows. Raises DataError if no answer has loss."""
    if not any(map(is_trained_on, sample.messages)):
        raise DataError(f"{sample.source}: sample {sample.id!r} has no assistant turn to learn from")
    messages = list(sample.messages)
    while messages[-1].role != "assistant":
        del messages[-1]
    return Sample(sample.id, sample.source, tuple(messages), sample.meta)


def is_trained_on(message: Message) -> bool:
    """Whether a turn is an answer with loss on some text."""
    texts = (part for part in message.content if isinstance(part, str))
    return message.role == "assistant" and message.loss and any(text.strip() for text in texts)
