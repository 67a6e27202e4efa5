"""Selection of the turns of a conversation to train on. Does not import torch."""

from composer.errors import DataError
from composer.sample import Message, Sample


def drop_unanswered_turns(sample: Sample) -> Sample:
    """Remove the trailing user turns of a sample, which have no answer.

    Args:
        sample: A conversation.

    Returns:
        The sample, up to its last assistant turn.

    Raises:
        DataError: If no assistant turn has text to train on.
    """
    if not any(map(is_trained_on, sample.messages)):
        raise DataError(f"{sample.source}: sample {sample.id!r} has no assistant turn to train on")
    messages = list(sample.messages)
    while messages[-1].role != "assistant":
        del messages[-1]
    return Sample(sample.id, sample.source, tuple(messages), sample.meta)


def is_trained_on(message: Message) -> bool:
    """Return whether a message is an assistant turn with loss on nonempty text."""
    texts = (part for part in message.content if isinstance(part, str))
    return message.role == "assistant" and message.loss and any(text.strip() for text in texts)
