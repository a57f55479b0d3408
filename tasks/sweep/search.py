"""How a parameter space is searched: a setting, without what it sets in motion (`tasks.sweep.propose`)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Search(BaseModel):
    """How the parameter space is searched."""

    model_config = ConfigDict(use_attribute_docstrings=True, frozen=True, extra="forbid")

    method: Literal["grid", "random", "bayesian"] = "grid"
    """``grid`` tries every combination, ``random`` draws some, ``bayesian`` lets Optuna's TPE sampler ask."""

    trials: int = Field(200, ge=1, le=100_000)
    """Combinations to try; ignored by ``grid``."""

    batch: int = Field(16, ge=1, le=1_000)
    """Combinations Optuna asks for at once; they run in threads together."""

    storage: str | None = None
    """File that keeps Optuna's trials, so that a killed search goes on; None to keep none."""
