"""A whole sweep: what it chooses, what it says, and that it comes back from the lake as it was."""

from __future__ import annotations

import importlib.util
import inspect
import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from lake.store import Lake
from tasks.errors import InputError
from tasks.strategies.registry import get, names
from tasks.strategies.strategy import code_of
from tasks.sweep import fused
from tasks.sweep.ask import ask
from tasks.sweep.costs import Costs
from tasks.sweep.grid import plan_grid
from tasks.sweep.request import SweepRequest
from tasks.sweep.store import LakeCheckpoints, load, read_trials, save
from tasks.sweep.sweep import choose, run_sweep, trials_of
from tasks.sweep.task import plan_sweep, sweep_chunk, sweep_symbol
from tasks.sweep.windows import WindowPlan
from tests.sweep.conftest import make_bars

GRID = {"fast": [3, 5, 8], "slow": [8, 13, 21, 34]}
RUN = {"symbol": "AB/C", "interval": "1m", "strategy": "ma_crossover", "grid": GRID}


def test_parameters_are_chosen_on_train_alone(bars) -> None:
    """Other bars after a train part change its figures and choice in nothing."""
    frame = bars(1_200)
    half = frame.height // 2
    other = pl.concat([frame.head(half), bars(1_200, seed=9).tail(half)])
    plan = WindowPlan(count=3, purge=0)
    one, two = (run_sweep(f, windows=plan, **RUN) for f in (frame, other))
    inside = [name for name in one.grid.columns if not name.startswith("oos_")]
    assert_frame_equal(one.grid.select(inside), two.grid.select(inside))
    assert one.params == two.params
    assert not one.grid["oos_sharpe"].equals(two.grid["oos_sharpe"])


def test_the_winner_is_the_best_of_the_grid_in_sample(bars) -> None:
    """The winner has the highest in-sample Sharpe, and window 0 uses it."""
    result = run_sweep(bars(1_200), **RUN)
    best = result.grid.sort("is_sharpe", descending=True).row(0, named=True)
    assert result.params == {name: best[name] for name in result.param_names}
    first = result.windows.row(0, named=True)
    assert {name: first[name] for name in result.param_names} == result.params
    assert first["is_sharpe"] == best["is_sharpe"]


def test_the_tables_agree_with_each_other(bars) -> None:
    """Equity, trades, windows and headline tell one story: costs are in it, curves start at 1, every run ends flat."""
    result = run_sweep(bars(1_200), **RUN)
    outside = result.equity.filter(pl.col("sample") == "out")
    trades = result.trades.filter(pl.col("sample") == "out")
    assert outside["equity"][0] == 1.0
    assert outside["equity"][-1] - 1 == pytest.approx(result.metrics["total_return"])
    by_window = trades.group_by("window").agg(pl.col("pnl").sum()).sort("window")["pnl"].to_numpy()
    assert np.prod(1 + by_window / 10_000) - 1 == pytest.approx(result.metrics["total_return"])
    assert np.prod(1 + result.windows["oos_total_return"].to_numpy()) - 1 == pytest.approx(
        result.metrics["total_return"]
    )
    assert result.windows["oos_trades"].sum() == trades.height == result.metrics["trades"]
    assert (trades["fees"] > 0).all()
    assert (result.equity["drawdown"] <= 0).all()
    assert result.metrics["fees"] == pytest.approx(trades["fees"].sum())


@pytest.mark.parametrize("seed", range(4))
def test_nothing_before_a_moment_depends_on_what_comes_after(bars, seed: int) -> None:
    """Whatever happens from a random bar on, figures of spans before it and choices made before it stay bit for bit."""
    rng = np.random.default_rng(seed)
    name, costs = names()[seed % len(names())], (Costs(), Costs(direction="both", slippage_range=0.1))[seed % 2]
    frame, other = bars(500, seed=seed), bars(500, seed=seed + 50)
    kept = pl.Series(rng.random(500) > 0.02)  # with holes, whose joined prices must look back too
    moment = int(rng.integers(300, 450))
    changed = pl.concat([frame.head(moment), other.tail(500 - moment)])
    told = {"symbol": "AB", "interval": "1m", "strategy": name, "costs": costs, "windows": WindowPlan(count=3, purge=0)}
    questions = [ask(one.filter(kept), **told) for one in (frame, changed)]
    found = [fused.run_grid(question) for question in questions]
    cut = int(kept.head(moment).sum())
    before = [s for s, segment in enumerate(questions[0].segments) if segment.stop <= cut]
    assert before
    np.testing.assert_array_equal(found[0][:, before], found[1][:, before])
    made = sum(window.train_stop <= cut for window in questions[0].windows)
    assert choose(found[0], made) == choose(found[1], made)
    assert not np.array_equal(found[0], found[1], equal_nan=True)


def test_windows_are_half_open_and_side_by_side(bars) -> None:
    """A window's equity rows lie in [test_start, test_end), which is where the next one starts."""
    result = run_sweep(bars(600), robustness=False, **RUN)
    outside = result.equity.filter(pl.col("sample") == "out")
    for row in result.windows.iter_rows(named=True):
        inside = outside.filter(pl.col("timestamp").is_between(row["test_start"], row["test_end"], closed="left"))
        assert inside["window"].unique().to_list() == [row["window"]]
    assert result.windows["test_end"][:-1].to_list() == result.windows["test_start"][1:].to_list()
    assert result.windows["test_end"][-1] == outside["timestamp"][-1] + timedelta(minutes=1)


def test_costs_only_ever_take(bars) -> None:
    """Costlier trading never ends richer, and nothing is free unless it is said."""
    frame = bars(900)
    returns = [
        run_sweep(frame, costs=Costs().scaled(factor), **RUN).grid["oos_total_return"].to_numpy()
        for factor in (0, 1, 4)
    ]
    assert (returns[0] > returns[1]).all()
    assert (returns[1] > returns[2]).all()
    assert Costs().fee_bps > 0
    assert Costs().slippage_bps > 0


def test_a_run_comes_back_from_the_lake_as_it_was(bars, tmp_path: Path) -> None:
    """Save, save again, load: the same run, once."""
    lake, result = Lake(tmp_path), run_sweep(bars(900), **RUN)
    save(lake, result)
    save(lake, result, datetime(2026, 1, 1, tzinfo=UTC))
    found = load(lake, result.run_id)
    for name in ("grid", "windows", "equity", "trades"):
        assert_frame_equal(getattr(found, name), getattr(result, name), check_row_order=name != "equity")
    for name in ("params", "metrics", "verdict", "verdict_passed", "verdict_details", "symbol", "strategy"):
        assert repr(getattr(found, name)) == repr(getattr(result, name))
    assert lake.scan("sweeps/runs").collect().height == 1
    with pytest.raises(InputError, match="none named 'nothing'"):
        load(lake, "nothing")


def test_runs_tell_when_they_finished_beside_older_ones_that_do_not(bars, tmp_path: Path) -> None:
    """A table from before the column was there takes it on; its old rows stay, with null."""
    result, ended, lake = run_sweep(bars(900), **RUN), datetime(2026, 1, 1, tzinfo=UTC), Lake(tmp_path / "old")
    save(Lake(tmp_path / "new"), result)
    rows = Lake(tmp_path / "new").scan("sweeps/runs").collect().drop("finished_at")
    older = rows.with_columns(run_id=pl.lit("older"))
    lake.replace("sweeps/runs", older, where={"run_id": "older"}, partition_by=("run_id",))
    save(lake, result, ended)
    told = dict(lake.scan("sweeps/runs").select("run_id", "finished_at").collect().iter_rows())
    assert told == {"older": None, result.run_id: ended}


def test_the_door_sweeps_from_lake_to_lake_and_counts_trials_once(bars, tmp_path: Path) -> None:
    """One large sweep and its parts run one after another leave the same lifetime trial count."""
    frame = bars(900)
    end = frame["timestamp"][-1] + timedelta(minutes=1)
    for root, grids in ((tmp_path / "one", [GRID]), (tmp_path / "parts", [{**GRID, "fast": [f]} for f in (3, 5, 8)])):
        Lake(root).write_bars(frame, symbol="AB", interval="1m", start=frame["timestamp"][0], end=end)
        for grid in (*grids, grids[0]):
            summary = sweep_symbol.fn(str(root), "AB", "1m", "ma_crossover", grid)
        trials = read_trials(Lake(root), "AB", "1m", "ma_crossover")
        assert len(trials) == summary.lifetime_trials == 11


def test_words_and_layout_are_no_code() -> None:
    """Comments, docstrings and another first grid leave a strategy's code what it was; a formula does not."""
    text = inspect.getsource(sys.modules[get("ma_crossover").params.__module__])
    code = get("ma_crossover").code
    assert code_of(f"# a word\n{text.replace('Enter on', 'Buy at')}\n\n") == code
    assert code_of(text.replace("360)", "360, 480)")) == code
    assert code_of(text.replace(" > ", " >= ", 1)) != code


def test_an_edited_strategy_is_another_trial_and_another_run(bars, tmp_path: Path, monkeypatch) -> None:
    """Changing the code and trying again counts: no older chunk, run or trial is taken for the new one's."""
    source = inspect.getsource(sys.modules[get("ma_crossover").params.__module__])
    (tmp_path / "edited.py").write_text(source.replace(" > ", " >= ", 1))
    spec = importlib.util.spec_from_file_location("edited", tmp_path / "edited.py")
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "edited", module)
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    frame = bars(300)
    first = run_sweep(frame, robustness=False, **RUN)
    monkeypatch.setattr("tasks.sweep.ask.get", lambda name: module.STRATEGY)
    second = run_sweep(frame, robustness=False, earlier=trials_of(first), **RUN)
    assert second.run_id != first.run_id
    assert (first.record["n_trials"], second.record["n_trials"]) == (11, 22)


def test_chunks_kept_under_another_plan_are_run_again(bars, tmp_path: Path) -> None:
    """A worker asked for a longer chunk than a killed run kept works on all of it."""
    frame, root = bars(600), str(tmp_path)
    end = frame["timestamp"][-1] + timedelta(minutes=1)
    Lake(root).write_bars(frame, symbol="AB", interval="1m", start=frame["timestamp"][0], end=end)
    request = SweepRequest(symbol="AB", interval="1m", strategy="ma_crossover", grid=GRID, chunk=4)
    sweep_chunk.fn(root, request, 0, 4)
    receipt = sweep_chunk.fn(root, request.model_copy(update={"chunk": 8}), 0, 8)
    assert (receipt.fresh, receipt.standings.done) == (True, 8)


class Failing(LakeCheckpoints):
    """Checkpoints that end the process, as far as a test can, before or after keeping the n-th chunk."""

    def __init__(self, lake: Lake, at: int, before: bool) -> None:
        super().__init__(lake)
        self.left, self.before = at, before

    def keep(self, key: str, first: int, figures: np.ndarray) -> None:
        """Count down, keep or not, and stop."""
        self.left -= 1
        if self.left or not self.before:
            super().keep(key, first, figures)
        if not self.left:
            raise KeyboardInterrupt


def test_a_killed_sweep_resumes_and_repeats_at_most_one_chunk(bars, tmp_path: Path, monkeypatch) -> None:
    """Stopped before or after any of its chunks is kept, a sweep ends like one that was not, and runs only the rest."""
    frame, runs = bars(600), []
    honest = fused.run_chunk
    monkeypatch.setattr(fused, "run_chunk", lambda *told, **more: runs.append(told[1].start) or honest(*told, **more))
    whole = run_sweep(frame, chunk=2, **RUN)
    assert len(runs) == 6
    for at in (1, 3, 6):
        for before in (True, False):
            lake = Lake(tmp_path / f"{at}{before}")
            runs.clear()
            with pytest.raises(KeyboardInterrupt):
                run_sweep(frame, chunk=2, checkpoints=Failing(lake, at, before), **RUN)
            resumed = run_sweep(frame, chunk=2, checkpoints=LakeCheckpoints(lake), **RUN)
            assert_frame_equal(resumed.grid, whole.grid)
            assert len(runs) == 6 + before
    other = run_sweep(frame, chunk=3, checkpoints=LakeCheckpoints(lake), **RUN)
    assert_frame_equal(other.grid, whole.grid)


def test_the_door_loads_no_engine_before_it_sweeps() -> None:
    """Importing the door costs neither Numba nor VectorBT."""
    code = "import sys, tasks.sweep.task; assert not {'numba', 'vectorbt'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_grid_holds_what_its_model_allows() -> None:
    """Conditions between parameters leave combinations out; bounds and names are errors."""
    grid = plan_grid(get("ma_crossover"), GRID)
    assert len(grid) == 11
    assert all(params.fast < params.slow for params in grid.sets)
    assert len(grid.indicators) == 6
    for values, words in (
        ({"fast": [0], "slow": [5]}, "fast=0"),
        ({"quick": [3]}, "unknown"),
        ({"fast": [9], "slow": [5]}, "found none"),
        ({"fast": []}, "one or more"),
    ):
        with pytest.raises(InputError, match=words):
            plan_grid(get("ma_crossover"), values)


def test_a_grid_without_end_is_refused_before_it_is_made() -> None:
    """Values of a few parameters multiply to more than any machine holds; that is said at once, with the number."""
    values = {"fast": range(1, 2_001), "slow": range(1, 10_001)}
    with pytest.raises(InputError, match="expected at most 1,000,000 combinations, found 20,000,000"):
        plan_grid(get("ma_crossover"), values)


def test_a_part_of_a_grid_reads_the_same_rows() -> None:
    """Picked combinations keep their parameters and indicators, and hold no row they do not read."""
    grid = plan_grid(get("ma_crossover"), GRID)
    part = grid.pick([7, 2])
    fresh = type(grid)(grid.strategy, (grid.sets[7], grid.sets[2]))
    assert np.array_equal(part.vectors, fresh.vectors)
    for k in range(2):
        assert [part.indicators[r] for r in part.use[k]] == [fresh.indicators[r] for r in fresh.use[k]]
    assert set(part.indicators) == set(fresh.indicators)
    assert grid.pick(range(len(grid))) is grid


def test_chunks_worked_on_elsewhere_are_all_there_is_to_do(bars, tmp_path: Path, monkeypatch) -> None:
    """Workers that share nothing but the lake do the chunks; the sweep then finds them, and ends the same."""
    frame = bars(600)
    root, end = str(tmp_path), frame["timestamp"][-1] + timedelta(minutes=1)
    Lake(root).write_bars(frame, symbol="AB", interval="1m", start=frame["timestamp"][0], end=end)
    request = SweepRequest(symbol="AB", interval="1m", strategy="ma_crossover", grid=GRID, chunk=4)
    request = pickle.loads(pickle.dumps(request))  # noqa: S301 - as it travels to a worker
    parts = plan_sweep.fn(root, request)
    assert parts == [(0, 4), (4, 8), (8, 11)]
    assert all(sweep_chunk.fn(root, request, *part).fresh for part in parts)
    assert not sweep_chunk.fn(root, request, *parts[0]).fresh
    monkeypatch.setattr(fused, "run_chunk", lambda *told, **more: pytest.fail("a chunk was run twice"))
    summary = sweep_symbol.fn(root, "AB", "1m", "ma_crossover", GRID, chunk=4)
    monkeypatch.undo()
    whole = run_sweep(frame, **{**RUN, "symbol": "AB"})
    assert_frame_equal(load(Lake(root), summary.run_id).grid, whole.grid)
    assert Lake(root).scan("sweeps/chunks").collect().height == 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("strategy", names())
def test_a_market_that_stands_still_is_no_error(strategy) -> None:
    """No movement: no trade, no ratio, no warning, and a verdict that says so."""
    still = make_bars(300).with_columns(pl.lit(100.0).alias(name) for name in ("open", "high", "low", "close"))
    result = run_sweep(still, symbol="AB", interval="1m", strategy=strategy)
    assert not result.verdict_passed
    assert result.verdict == "Nothing survives: 0 trades out of sample are too few to tell (expected 10)."
    assert np.isnan(result.metrics["sharpe"])


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (make_bars(6), {"windows": WindowPlan(count=1)}),
        (make_bars(600, drop=tuple(range(1, 600, 2))), {}),
        (make_bars(500), {"costs": Costs(fixed_fee=20_000.0)}),
        (make_bars(500).with_columns(volume=pl.lit(0.0)), {"strategy": "volume_pressure", "grid": None}),
    ],
    ids=["six bars", "every other bar missing", "fees above the cash", "no volume"],
)
def test_where_nothing_can_be_traded_nothing_is(frame, told) -> None:
    """Bars, costs or volumes that leave no trade give an empty, honest result."""
    result = run_sweep(frame, **{**RUN, **told})
    assert result.metrics["trades"] == 0
    assert result.metrics["total_return"] == 0
    assert "0 trades" in result.verdict
