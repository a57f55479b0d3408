"""A seeded synthetic sweep: what the report must be able to draw, without running one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import numpy as np
import polars as pl
import pytest

from lake.schema import as_bars
from tasks.sweep.result import SweepResult

START = datetime(2022, 1, 1, tzinfo=UTC)
DAYS = 31


def make_bars(seed: int = 3, days: int = DAYS, minutes: int = 15) -> pl.DataFrame:
    """Return a random walk of bars."""
    rng = np.random.default_rng(seed)
    count = days * 1440 // minutes
    close = 40_000 * np.exp(np.cumsum(rng.normal(0, 0.002, count)))
    opened = np.concatenate([[40_000.0], close[:-1]])
    wick = np.abs(rng.normal(0, 0.001, count))
    return as_bars(
        pl.DataFrame(
            {
                "timestamp": pl.datetime_range(
                    START, START + timedelta(minutes=minutes * (count - 1)), f"{minutes}m", eager=True
                ),
                "open": opened,
                "high": np.maximum(opened, close) * (1 + wick),
                "low": np.minimum(opened, close) * (1 - wick),
                "close": close,
                "volume": rng.lognormal(3, 1, count),
            }
        )
    )


def make_grid(seed: int = 5) -> pl.DataFrame:
    """Return 3 parameters' grid with a mild plateau in sample and noise out of sample; some sets never trade."""
    rng = np.random.default_rng(seed)
    sets = [(fast, slow, band) for fast, slow, band in product(range(5, 55, 5), range(20, 220, 20), (0.0, 0.5, 1.0))]
    grid = pl.DataFrame([s for s in sets if s[0] < s[1]], schema=["fast", "slow", "band"], orient="row")
    peak = np.exp(-(((grid["fast"] - 20) / 15) ** 2).to_numpy() - (((grid["slow"] - 120) / 60) ** 2).to_numpy())
    columns: dict[str, np.ndarray] = {}
    for sample, edge, noise in (("is", 2.0, 0.3), ("oos", 0.4, 0.9)):
        sharpe = peak * edge - 0.5 + rng.normal(0, noise, grid.height)
        columns |= {
            f"{sample}_total_return": sharpe * 0.04,
            f"{sample}_sharpe": sharpe,
            f"{sample}_max_drawdown": -np.abs(rng.normal(0.08, 0.02, grid.height)),
            f"{sample}_trades": rng.integers(5, 200, grid.height),
            f"{sample}_win_rate": rng.uniform(0.3, 0.6, grid.height),
        }
    columns["oos_sharpe"][-4:] = np.nan
    return grid.with_columns(**columns)


def make_windows(count: int = 5) -> pl.DataFrame:
    """Return rolling windows over the synthetic month."""
    step = timedelta(days=4)
    first_test = START + timedelta(days=11)
    return pl.DataFrame(
        [
            {
                "window": n,
                "train_start": first_test + step * n - timedelta(days=10),
                "train_end": first_test + step * n,
                "test_start": first_test + step * n,
                "test_end": first_test + step * (n + 1),
                "fast": 20 + 5 * (n % 2),
                "slow": 120,
                "band": 0.5,
                "is_sharpe": 1.4 - 0.1 * n,
                "is_total_return": 0.05,
                "oos_sharpe": 0.6 - 0.3 * n,
                "oos_total_return": 0.01 - 0.004 * n,
                "oos_max_drawdown": -0.03,
                "oos_trades": 7 + n,
            }
            for n in range(count)
        ]
    )


def make_equity(bars: pl.DataFrame, windows: pl.DataFrame, seed: int = 9) -> pl.DataFrame:
    """Return in-sample equity over all bars and stitched out-of-sample equity over the test spans."""
    rng = np.random.default_rng(seed)
    test_start = windows["test_start"].min()
    parts = []
    for sample, rows, drift in (
        ("in", bars, 4e-5),
        ("out", bars.filter(pl.col("timestamp") >= test_start, pl.col("timestamp") < windows["test_end"].max()), -1e-5),
    ):
        equity = np.exp(np.concatenate([[0.0], np.cumsum(rng.normal(drift, 0.0012, rows.height - 1))]))
        window = (
            ((rows["timestamp"] - test_start).dt.total_days() // 4).cast(pl.Int64)
            if sample == "out"
            else pl.zeros(rows.height, dtype=pl.Int64, eager=True)
        )
        parts.append(
            pl.DataFrame(
                {
                    "timestamp": rows["timestamp"],
                    "equity": equity,
                    "drawdown": equity / np.maximum.accumulate(equity) - 1,
                    "benchmark": rows["close"] / rows["close"][0],
                    "sample": [sample] * rows.height,
                    "window": window,
                }
            )
        )
    return pl.concat(parts)


def make_trades(bars: pl.DataFrame, windows: pl.DataFrame, count: int = 48, seed: int = 11) -> pl.DataFrame:
    """Return alternating trades filled at bar opens, in both samples."""
    rng = np.random.default_rng(seed)
    test_start = windows["test_start"].min()
    places = np.sort(rng.choice(bars.height - 40, count, replace=False))
    rows = []
    for n, place in enumerate(places.tolist()):
        entry, exit_ = bars.row(place, named=True), bars.row(place + int(rng.integers(2, 40)), named=True)
        side = "long" if n % 3 else "short"
        quantity, sign = 0.25, 1 if side == "long" else -1
        fees = 0.0005 * quantity * (entry["open"] + exit_["open"])
        pnl = sign * quantity * (exit_["open"] - entry["open"]) - fees
        rows.append(
            {
                "entry_timestamp": entry["timestamp"],
                "exit_timestamp": exit_["timestamp"],
                "side": side,
                "quantity": quantity,
                "entry_price": entry["open"],
                "exit_price": exit_["open"],
                "fees": fees,
                "pnl": pnl,
                "return": pnl / (quantity * entry["open"]),
                "sample": "out" if entry["timestamp"] >= test_start else "in",
                "window": 0,
            }
        )
    return pl.DataFrame(rows)


def make_extras() -> dict[str, pl.DataFrame]:
    """Return cost sensitivity, Monte Carlo bands and the fan, shaped as a sweep makes them."""
    bars = np.linspace(0, 1919, 60).astype(int)
    spread = np.sqrt(bars / 1919 + 0.001) * 0.06
    fan = {f"q{q:02d}": np.exp(z * spread) for q, z in ((5, -1.64), (25, -0.67), (50, 0), (75, 0.67), (95, 1.64))}
    kinds = (
        ("bootstrap", "sharpe"),
        ("bootstrap", "total_return"),
        ("reshuffle", "max_drawdown"),
        ("jitter", "sharpe"),
    )
    bands = [
        {"kind": kind, "figure": figure, "q05": -0.9, "q25": -0.5, "q50": -0.2, "q75": 0.1, "q95": 0.4}
        for kind, figure in kinds
    ]
    costs = {"factor": [0.5, 1.0, 2.0, 4.0], "total_return": [0.02, -0.0412, -0.1, -0.2]}
    others = {"sharpe": [0.2, -0.62, -1.2, -2.0], "max_drawdown": [-0.08, -0.0934, -0.12, -0.2], "trades": [31] * 4}
    return {
        "cost_sensitivity": pl.DataFrame(costs | others),
        "monte_carlo": pl.DataFrame(bands),
        "fan": pl.DataFrame({"bar": bars} | fan),
    }


def make_result(**changes: object) -> tuple[SweepResult, pl.DataFrame]:
    """Return a result and its bars; `changes` replace fields of the result."""
    bars, windows = make_bars(), make_windows()
    fields: dict[str, object] = {
        "run_id": "fixture-0001",
        "symbol": "BTC-PERP",
        "interval": "15m",
        "strategy": "moving_average_crossover",
        "params": {"fast": 20, "slow": 120, "band": 0.5},
        "grid": make_grid(),
        "windows": windows,
        "equity": make_equity(bars, windows),
        "trades": make_trades(bars, windows),
        "metrics": {
            "total_return": -0.0412,
            "sharpe": -0.62,
            "max_drawdown": -0.0934,
            "trades": 31.0,
            "win_rate": 0.4194,
            "exposure": 0.55,
            "turnover": 31.2,
            "fees": 620.5,
            "benchmark_return": -0.117,
        },
        "verdict": "Nothing survives: the best of 264 sets kept −0.62 of its 1.40 Sharpe out of sample.",
        "verdict_passed": False,
        "verdict_details": {
            "trials": 264.0,
            "deflated_sharpe_probability": 0.03,
            "probabilistic_sharpe": 0.21,
            "overfitting_probability": 0.61,
            "minimum_track_record_bars": float("inf"),
        },
        "extras": make_extras(),
        "record": {
            "seed": 7,
            "code_version": "0.1.0+abc1234",
            "lake_version": 3,
            "n_trials": 264,
            "engine": "vectorbt 1.2.0",
            "costs": {"fee_rate": 0.0005, "slippage_bps": 1.0},
            "grid": {"fast": [5, 10], "slow": [20, 40]},
        },
    }
    return SweepResult(**(fields | changes)), bars  # type: ignore[arg-type]


def make_quality() -> pl.DataFrame:
    """Return a verdict that passes, one that warns, and one that rejects."""
    status = ["pass", "warn", "reject"]
    findings = [
        "[]",
        '[{"rule": "jump", "severity": "warn", "rows": 2, "message": "2 bars move more than 10 deviations"}]',
        '[{"rule": "gap", "severity": "reject", "rows": 31, "message": "31 bars are missing"}]',
    ]
    return pl.DataFrame(
        {
            "symbol": ["BTC-PERP"] * 3,
            "interval": ["15m"] * 3,
            "partition_start": [START + timedelta(days=10 * n) for n in range(3)],
            "partition_end": [START + timedelta(days=10 * (n + 1)) for n in range(3)],
            "status": status,
            "rows": [960, 960, 929],
            "expected_rows": [960, 960, 960],
            "findings_json": findings,
            "content_hash": ["a", "b", "c"],
            "suite_version": ["1"] * 3,
            "calendar": ["always_open"] * 3,
            "checked_at": [START] * 3,
        }
    )


COVERAGE = {"rows": 2976, "expected_rows": 2976, "missing_rows": 0}


@pytest.fixture(scope="session")
def sweep() -> tuple[SweepResult, pl.DataFrame]:
    """A synthetic result that did not survive, with its bars."""
    return make_result()


@pytest.fixture(scope="session")
def quality() -> pl.DataFrame:
    """Three verdicts, one of each status."""
    return make_quality()
