"""What a fit and its predictions are expected to take, as one looks at it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, repr=False)
class Cost:
    """What `fit` takes at the most, and predictions of 1,000 rows.

    >>> Cost(3, 360, 51_840, 12.0, 4.2, 31_000_000, 0.9, 24_000_000)
    Cost of a fit, at the most:
      training         3 members, 360 steps, 51,840 tokens (12 a row)
      time             4.2 s
      memory           31 MB
    Cost of predicting 1,000 rows:
      time             0.9 s
      memory           24 MB
    """

    n_models: int
    n_steps: int
    n_tokens: int
    tokens_per_row: float
    fit_seconds: float
    fit_memory: int
    predict_seconds: float
    predict_memory: int

    def __repr__(self) -> str:
        training = "no steps"
        if self.n_steps:
            members = "1 member" if self.n_models == 1 else f"{self.n_models} members"
            training = (
                f"{members}, {self.n_steps:,} steps, {self.n_tokens:,} tokens "
                f"({self.tokens_per_row:.3g} a row)"
            )
        return "\n".join(
            [
                "Cost of a fit, at the most:",
                f"  training         {training}",
                f"  time             {_time(self.fit_seconds)}",
                f"  memory           {_memory(self.fit_memory)}",
                "Cost of predicting 1,000 rows:",
                f"  time             {_time(self.predict_seconds)}",
                f"  memory           {_memory(self.predict_memory)}",
            ]
        )


def _time(seconds: float) -> str:
    """Return a time as one says it.

    >>> _time(0.04), _time(75), _time(600), _time(9000)
    ('0.04 s', '75 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.2g} h"


def _memory(n_bytes: int) -> str:
    """Return a size as one says it.

    >>> _memory(31_000_000), _memory(2_340_000_000)
    ('31 MB', '2.3 GB')
    """
    return f"{n_bytes / 1e6:.3g} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:.2g} GB"
