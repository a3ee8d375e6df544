"""Every exception that the project raises on purpose.

GrpoError
├── UserError                 the user can fix it; exit code 2 and one line, before a model is loaded
│   ├── ConfigError           a flag, an environment variable or a configuration file
│   ├── DataError             a data set: file, row, field, what is wrong, how to fix it
│   ├── CheckpointError       a checkpoint that is missing, damaged or of another run
│   └── TrackingError         W&B was asked for and can't be used, or a tracking call that can't be meant
└── InfrastructureError       ours to fix; loud, and never turned into a reward
    ├── PeerGoneError         another process of the run died; one line that names it, exit code 75
    ├── SandboxError          the sandbox failed, which says nothing about the code that it should have run
    └── JournalError          the run's own record could not be written or read
        └── DiskFullError     for want of room: exit code 70, one line, and the same command goes on

Wrong, slow or hostile model output is data (a ``Verdict``), never an exception.
"""


class GrpoError(Exception):
    """Base of every exception raised on purpose."""


class UserError(GrpoError):
    """Something that the user can fix. ``str(error)`` says what is wrong, where, and how to fix it."""


class ConfigError(UserError):
    """A flag, an environment variable or a configuration file is wrong."""


class DataError(UserError):
    """A data set can't be used. The message lists every bad row at once."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or belongs to another run."""


class TrackingError(UserError):
    """W&B was asked for and can't be used, or a tracking call makes no sense."""


class InfrastructureError(GrpoError):
    """Our own machinery failed."""


class SandboxError(InfrastructureError):
    """The sandbox failed. This is never a statement about the code that it should have run."""


class PeerGoneError(InfrastructureError):
    """Another process of the run is gone. ``str(error)`` names it; the same command goes on."""


class JournalError(InfrastructureError):
    """The run's journal could not be written or read."""


class DiskFullError(JournalError):
    """The disk has no room for the run's record. ``str(error)`` says how much is needed and how to go on."""
