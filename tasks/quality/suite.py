"""The Great Expectations project: suites, validation definitions and checkpoints made out of the table of rules.

Importing Great Expectations takes 8 to 13 seconds and 270 MB, so only this module and `docs` do it and nothing here is
imported before it is needed. A project is built once per process and set of limits and then looped: a run over 43,200
bars costs about 0.1 s, of which 0.06 s are fixed.

Two traps are closed here: an exception inside a metric reads as a plain failure (`_outcome` raises instead), and an
empty frame passes every column expectation (the row count is one of the expectations). A third, COMPLETE with index
columns (24 s where half a million rows fail), is never used: `tasks.quality.profile.bad_rows` finds the rows.
"""

from __future__ import annotations

import functools
import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import great_expectations as gx
import great_expectations.expectations as gxe
import polars as pl
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import MulticolumnMapExpectation
from great_expectations.expectations.metrics.map_metric_provider import MulticolumnMapMetricProvider
from great_expectations.expectations.metrics.map_metric_provider.multicolumn_condition_partial import (
    multicolumn_condition_partial,
)

from lake.schema import BARS
from lake.timeline import interval as interval_named
from tasks.errors import DisagreementError
from tasks.quality.rules import BY_NAME, FINE, RULES, Rule, rules_of
from tasks.quality.thresholds import Thresholds

SEVERITIES = {"reject": "critical", "warn": "warning"}

#: The checkpoints of limits and intervals, the last used last, and how many of them a process keeps: those of two
#: markets and every interval are 22.
_BARS_CHECKPOINTS: OrderedDict[str, Any] = OrderedDict()
_KEPT = 32


class _BarsKeepRule(MulticolumnMapMetricProvider):
    """Evaluate a rule's own expression over the rows of a pandas batch."""

    condition_metric_name = "multicolumn_values.keep_rule"
    condition_domain_keys = ("batch_id", "table", "column_list", "row_condition", "condition_parser", "ignore_row_if")
    condition_value_keys = ("rule", "interval", "limits")

    @multicolumn_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column_list: Any, rule: str, interval: str, limits: str, **_: Any) -> Any:  # noqa: N805 - a class method by GX's decorator
        flag = BY_NAME[rule].flag(Thresholds.model_validate_json(limits), interval_named(interval))
        # with_columns, not select: a rule that is switched off is one literal for all rows
        series = pl.from_pandas(column_list).with_columns(kept=~flag.fill_null(False))["kept"].to_pandas()
        series.index = column_list.index
        return series


class ExpectBarsToKeepRule(MulticolumnMapExpectation):
    """Expect every bar to keep one rule of `tasks.quality.rules`."""

    map_metric: ClassVar[str] = "multicolumn_values.keep_rule"
    success_keys: ClassVar[tuple[str, ...]] = ("rule", "interval", "limits", "mostly")
    args_keys: ClassVar[tuple[str, ...]] = ("column_list", "rule", "interval", "limits")
    ignore_row_if: Literal["all_values_are_missing", "any_value_is_missing", "never"] = "never"

    rule: str
    interval: str
    limits: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What Great Expectations said: the names of the rules that failed, in the table's order, and its raw result."""

    failed: tuple[str, ...]
    result: Any


def _native(rule: Rule) -> list[gxe.Expectation]:
    """Return the library's own expectations where it has a word for the rule."""
    words: dict[str, list[tuple[type[gxe.Expectation], dict[str, Any]]]] = {
        "duplicated": [(gxe.ExpectColumnValuesToBeUnique, {"column": "timestamp"})],
        "out_of_order": [(gxe.ExpectColumnValuesToBeIncreasing, {"column": "timestamp"})],
        "null_value": [
            (gxe.ExpectColumnValuesToNotBeNull, {"column": name}) for name in BARS if name != "quote_volume"
        ],
    }
    return [kind(**arguments, **_labels(rule)) for kind, arguments in words.get(rule.name, [])]


def _labels(rule: Rule) -> dict[str, Any]:
    return {"severity": SEVERITIES[rule.severity], "meta": {"rule": rule.name}, "description": _title(rule)}


def _title(rule: Rule) -> str:
    return f"{rule.name} ({rule.severity}): fails where {rule.meaning}"


def row_expectations(thresholds: Thresholds, interval: str) -> list[gxe.Expectation]:
    """Return the expectations a frame of bars is judged by: the library's own, and one of ours for every other rule."""
    limits = thresholds.model_dump_json()
    found: list[gxe.Expectation] = [gxe.ExpectTableRowCountToBeBetween(min_value=1, **_labels(BY_NAME["empty"]))]
    for rule in rules_of("row"):
        native = _native(rule)
        if not native:
            columns = rule.flag(thresholds, interval_named(interval)).meta.root_names()
            # GX wants at least two columns, and a page is easier to read when each value says its time
            columns = list(dict.fromkeys(["timestamp", *columns]))
            columns += ["close"] if len(columns) == 1 else []
            native = [
                ExpectBarsToKeepRule(
                    column_list=columns, rule=rule.name, interval=interval, limits=limits, **_labels(rule)
                )
            ]
        found += native
    return found


def profile_expectations(rules: Iterable[Rule] = RULES) -> list[gxe.Expectation]:
    """Return the expectations a table of profiles is judged by: no partition may have a bar that breaks a rule."""
    rows = gxe.ExpectTableRowCountToBeBetween(min_value=1, **_labels(BY_NAME["empty"]))
    none = [gxe.ExpectColumnValuesToBeBetween(column=r.name, min_value=0, max_value=0, **_labels(r)) for r in rules]
    return [rows, *none]


@functools.cache
def context() -> Any:
    """Return the process's Great Expectations context, without progress bars; it writes nothing to disk."""
    logging.getLogger("great_expectations").setLevel(logging.WARNING)  # it tells of every temporary folder
    made = gx.get_context(mode="ephemeral")
    made.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    made.data_sources.add_pandas("lake")
    return made


def checkpoint(name: str, expectations: list[gxe.Expectation], result_format: str, actions: Any = ()) -> Any:
    """Add a suite, its validation definition and its checkpoint to the context and return the checkpoint."""
    project = context()
    asset = project.data_sources.get("lake").add_dataframe_asset(name)
    batch = asset.add_batch_definition_whole_dataframe("frame")
    suite = project.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
    definition = project.validation_definitions.add(gx.ValidationDefinition(name=name, data=batch, suite=suite))
    return project.checkpoints.add(
        gx.Checkpoint(
            name=name, validation_definitions=[definition], result_format=result_format, actions=list(actions)
        )
    )


def forget(names: Iterable[str]) -> None:
    """Remove checkpoints, their definitions, suites and assets from the context, so that the names are free again."""
    project = context()
    for name in names:
        project.checkpoints.delete(name)
        project.validation_definitions.delete(name)
        project.suites.delete(name)
        project.data_sources.get("lake").delete_asset(name)


def _bars_checkpoint(thresholds: Thresholds, interval: str) -> Any:
    """Return the checkpoint of some limits and an interval; the context forgets the one that was not used longest."""
    name = f"bars_{interval}_{thresholds.version}"
    made = _BARS_CHECKPOINTS.pop(name, None)
    if made is None:
        made = checkpoint(name, row_expectations(thresholds, interval), "BOOLEAN_ONLY")
    _BARS_CHECKPOINTS[name] = made
    while len(_BARS_CHECKPOINTS) > _KEPT:
        forget([_BARS_CHECKPOINTS.popitem(last=False)[0]])
    return made


@functools.cache
def _partition_checkpoint() -> Any:
    whole = [rule for rule in RULES if rule.scope != "row"]
    return checkpoint("partition", profile_expectations(whole), "BOOLEAN_ONLY")


@functools.cache
def _lake_checkpoint() -> Any:
    # COMPLETE is cheap here: a table of profiles has a row a partition, not a row a bar
    return checkpoint("lake", profile_expectations(), "COMPLETE")


def _run(made: Any, frame: Any) -> Any:
    """Run a checkpoint over a frame; the context forgets the result, or a loop over partitions would keep them all."""
    run = made.run(batch_parameters={"dataframe": frame})
    results = context().validation_results_store
    for key in results.list_keys():
        results.remove_key(key)
    return run


def _outcome(run: Any) -> Outcome:
    """Read a checkpoint's result.

    Raises:
        DisagreementError: An expectation could not be evaluated, so that nothing is known about its rule.
    """
    (result,) = run.run_results.values()
    failed = set()
    for each in result.results:
        _raise_if_broken(each)
        if not each.success:
            failed.add(each.expectation_config.meta["rule"])
    return Outcome(tuple(name for name in BY_NAME if name in failed), run)


def _raise_if_broken(each: Any) -> None:
    info = each.exception_info or {}
    # GX gives one record, or one record a metric
    records: list[Mapping[str, Any]] = [info] if "raised_exception" in info else list(info.values())
    for record in records:
        if record.get("raised_exception"):
            rule = each.expectation_config.meta["rule"]
            raise DisagreementError(
                f"quality: expected Great Expectations to evaluate rule {rule!r}, found an exception in it: "
                f"{record.get('exception_message')}; the partition has no verdict"
            )


def judge_rows(rows: pl.DataFrame, thresholds: Thresholds, interval: str) -> Outcome:
    """Judge a partition's bars (the `rows` of a `Sight`) by the row suite."""
    return _outcome(_run(_bars_checkpoint(thresholds, interval), pandas_rows(rows)))


def pandas_rows(rows: pl.DataFrame) -> Any:
    """Return the `rows` of a `Sight` as the pandas frame that the row suite judges."""
    unseen = [pl.lit(None, pl.Float64).alias(name) for name in FINE if name not in rows.columns]
    return rows.with_columns(unseen).to_pandas()


def judge_partition(profile: pl.DataFrame) -> Outcome:
    """Judge a partition's profile by the rules that are about more than a single bar."""
    return _outcome(_run(_partition_checkpoint(), profile.to_pandas()))


def failing_profiles(profiles: pl.DataFrame) -> list[list[str]]:
    """Judge a table of profiles and return for each of its rows the names of the rules that the partition breaks."""
    run = _run(_lake_checkpoint(), profiles.to_pandas())
    failing: list[list[str]] = [[] for _ in range(profiles.height)]
    _outcome(run)
    (result,) = run.run_results.values()
    for each in result.results:
        for place in each.result.get("unexpected_index_list") or ():
            failing[place].append(each.expectation_config.meta["rule"])
    return failing
