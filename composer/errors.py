"""Errors meant for users. Each message names what was got, what was expected, the place, and the remedy.

The command line prints these without a traceback and exits with `exit_status`. Any other exception is a bug and keeps
its traceback.
"""

from collections.abc import Sequence


class ComposerError(Exception):
    """Base class of every error that a user can fix."""

    exit_status = 1


class ConfigError(ComposerError):
    """An invalid configuration. Lists all problems, each with its key and origin.

    Args:
        problems: The problem, or all of them; one line each.
    """

    exit_status = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class PluginError(ComposerError):
    """A plugin that is broken, lacks a dependency, or provides a name that another plugin also provides."""

    exit_status = 2


class ComposeError(ComposerError):
    """Parts that are valid on their own but do not fit together."""

    exit_status = 2


class DataError(ComposerError):
    """A record that cannot be read. Names the file and line, or the sample."""


class ContextLengthError(DataError):
    """A sample that is longer than the backbone's context. Gives its length and the limit."""


class MediaError(DataError):
    """An image or video that cannot be decoded. Names the file and the reason."""


class JudgeError(ComposerError):
    """A judge that cannot be reached or does not answer. Names the judge and quotes its response."""


class CheckpointError(ComposerError):
    """A checkpoint that is missing, truncated, or does not match the model."""


class FileError(ComposerError):
    """A file or folder that cannot be read or written. Names it, the reason and the remedy."""


class DiskFullError(FileError):
    """A disk without space for a file. Names the file and the free space."""


class TrainingError(ComposerError):
    """A run that cannot continue, for example because of non-finite losses or too many bad samples."""
