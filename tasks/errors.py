"""Every error Klinehouse raises on purpose, split by what cures it.

::

    KlinehouseError
    ├── ConfigurationError        a person changes a setting, a key or a plan; never retried
    ├── InputError                the caller changes its arguments; never retried, the other symbols go on
    │   └── UnknownSymbolError    the vendor does not list that symbol
    ├── TransientError            time cures it; retried, within bounds
    │   ├── RateLimitedError      time cures it, and the vendor may say how much
    │   └── ConflictError         another writer was first; read again and retry
    ├── QuotaExhaustedError       only the vendor's reset cures it; the run stops with what it has saved
    ├── ProtocolError             the other side broke its published protocol; a person changes code
    ├── DataError                 the data must be mended or released by a person
    │   ├── SchemaError           a table or file has other columns or types than promised
    │   ├── RejectedDataError     quality rejected a partition that the run needs
    │   └── LookAheadError        a feature or strategy was caught reading the future
    └── DisagreementError         two computations that must agree do not; the result is withheld

Constructor arguments are passed positionally to ``super().__init__`` so that every error survives pickling between
processes; ``tests/test_errors.py`` pickles each class. No message ever holds a secret.
"""

from __future__ import annotations


class KlinehouseError(Exception):
    """Base of every error the platform raises on purpose."""


class ConfigurationError(KlinehouseError):
    """A setting, key or plan is wrong. Never retried: the message names the setting to change."""


class InputError(KlinehouseError, ValueError):
    """An argument is wrong. Never retried: the message says what was expected and what was found."""


class UnknownSymbolError(InputError):
    """The vendor does not list the symbol. That symbol fails; the others go on."""


class TransientError(KlinehouseError):
    """A passing fault of network or server. Retried with backoff, within bounds."""


class RateLimitedError(TransientError):
    """The vendor asked for fewer requests.

    Attributes:
        retry_after_s: Seconds the vendor asked us to wait, None where it named none.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return str(self.args[0])


class ConflictError(TransientError):
    """Another writer committed first and the retries are used up. Nothing was written; run again."""


class QuotaExhaustedError(KlinehouseError):
    """The plan's quota is used up until its reset. The run stops with what it has saved."""


class ProtocolError(KlinehouseError):
    """The other side answered outside its published protocol. A defect, theirs or ours: never retried blindly."""


class DataError(KlinehouseError):
    """Data that cannot be used as it stands."""


class SchemaError(DataError):
    """Columns or types differ from what the table promises. Nothing was written."""


class RejectedDataError(DataError):
    """Quality rejected a partition that the run needs. Mend it, release it, or allow it by name."""


class LookAheadError(DataError):
    """A feature or strategy read the future. The sweep is stopped; the message names feature, bar and both values."""


class DisagreementError(KlinehouseError):
    """Two computations that must agree do not. The result is withheld; the message shows the first difference."""
