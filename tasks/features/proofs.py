"""Proofs that are looked up while code and data stay the same, in the lake's table ``features/proofs``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from lake.store import Lake
from tasks.errors import LookAheadError
from tasks.features.compute import compute_features, parse_name, warm_up
from tasks.features.fingerprint import features_code, hash_files, hash_frames
from tasks.features.prover import Proof, Subject, prove

PROOFS = "features/proofs"


def feature_subject(name: str, interval: str) -> Subject:
    """Return a feature of the registry with its claims, for bars of `interval` (with `benchmark_close` if it needs it).

    Raises:
        InputError: No feature has the name.
    """

    def compute(bars: pl.DataFrame) -> pl.DataFrame:
        return compute_features(bars, [name], interval=interval)

    return Subject(name, compute, warm_up(name, interval), parse_name(name)[0].days, interval)


def prove_once(lake: Lake, subject: Subject, bars: pl.DataFrame, *, code: Iterable[Path] = (), seed: int = 0) -> Proof:
    """Prove a subject, or look up that it was proven with the same code, claims, bars and seed.

    Args:
        lake: Keeps the proofs; only successes are kept.
        subject: What to prove. Its name must say everything that its code does not, such as parameters.
        bars: Real bars.
        code: Files besides this room's whose change makes the proof void (the strategy's).
        seed: As `prove`.

    Raises:
        LookAheadError: As `prove`.
    """
    key = _key(subject, bars, code, seed)
    if lake.exists(PROOFS):
        found = lake.scan(PROOFS).filter(pl.col("key") == key).head(1).collect()
        if found.height:
            row = found.row(0, named=True)
            return Proof(row["name"], (), row["bars"], row["runs"], row["seconds"], cached=True)
    proof = prove(subject, bars, seed=seed)
    row = {"key": key, "name": proof.name, "bars": proof.bars, "runs": proof.runs, "seconds": proof.seconds}
    lake.append(PROOFS, pl.DataFrame([{**row, "proven_at": lake.now()}]))
    return proof


def prove_features(
    lake: Lake, bars: pl.DataFrame, names: Sequence[str], interval: str, *, seed: int = 0
) -> list[Proof]:
    """Prove every named feature on the bars.

    Raises:
        LookAheadError: Some are not causal; the message names each with its bar and both values.
    """
    proofs, failures = [], []
    for name in names:
        try:
            proofs.append(prove_once(lake, feature_subject(name, interval), bars, seed=seed))
        except LookAheadError as error:
            failures.append(str(error))
    if failures:
        raise LookAheadError("\n".join(failures))
    return proofs


def _key(subject: Subject, bars: pl.DataFrame, code: Iterable[Path], seed: int) -> str:
    claims = {
        "name": subject.name,
        "warm_up": subject.warm_up,
        "days": subject.days,
        "interval": subject.interval,
        "known_at_open": sorted(subject.known_at_open),
        "holes": subject.holes,
        "converges": subject.converges,
        "seed": seed,
        "room": features_code(),
        "code": hash_files(code),
        "data": hash_frames({"bars": bars, **{f"longer {name}": frame for name, frame in subject.longer.items()}}),
    }
    return hashlib.sha256(json.dumps(claims, sort_keys=True).encode()).hexdigest()
