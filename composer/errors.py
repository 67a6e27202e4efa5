"""Errors meant for users. Each message says what was got, what was expected, where, and what to do.

The command line prints these without a traceback and exits with `exit_status`; every other exception is a defect
and keeps its traceback.
"""

from collections.abc import Sequence


class ComposerError(Exception):
    """Base of every error that a user can mend."""

    exit_status = 1


class ConfigError(ComposerError):
    """A configuration that cannot be used: all its problems at once, each with its key and origin."""

    exit_status = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class PluginError(ComposerError):
    """A plugin that is broken, missing a dependency, or provides a name that another one provides too."""

    exit_status = 2


class ComposeError(ComposerError):
    """Parts that are valid alone and do not fit together."""

    exit_status = 2


class DataError(ComposerError):
    """A record that cannot be read: names the file and the line, or the sample."""


class ContextLengthError(DataError):
    """A sample that is longer than the backbone's context: gives its length and the limit."""


class MediaError(DataError):
    """An image or a video that cannot be decoded: names the file and the reason."""


class JudgeError(ComposerError):
    """A judge that cannot be asked, or does not answer: names it and what it said."""


class CheckpointError(ComposerError):
    """A checkpoint that is missing, truncated, or made for another model."""


class FileError(ComposerError):
    """A file or folder that the system does not let composer read or write: names it, the reason and the remedy."""


class DiskFullError(FileError):
    """No room for a file: names it, and how much room its folder has."""


class TrainingError(ComposerError):
    """A run that must stop: losses that are not finite, too many bad samples."""
