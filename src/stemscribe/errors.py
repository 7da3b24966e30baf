"""Everything that can go wrong for a reason a person can mend.

Each message is one line that says what is wrong, where, and the way out. The command line and the stages print the message
without a traceback and leave with the class's `exit_code`; any other exception is a defect of ours and keeps its traceback.

    StemscribeError            1  the work failed
    |-- UsageError             2  asked wrongly: unknown parameter, unknown stem, missing argument
    `-- DataError              1  the input is broken or missing
        `-- CheckpointError    1  a model folder or checkpoint is not what it claims to be
"""


class StemscribeError(Exception):
    """Base of all errors with a message for people."""

    exit_code = 1


class UsageError(StemscribeError):
    """The command or a parameter is wrong; nothing was started."""

    exit_code = 2


class DataError(StemscribeError):
    """An input (audio, MIDI, metadata, archive, shard) is missing or broken."""


class CheckpointError(DataError):
    """Weights, their config and the code do not agree."""
