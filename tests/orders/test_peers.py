"""Forty-three failures that users of other traders reported, and the tests that keep us from each."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: Where it was reported, what happened there, and the tests that fail if it could happen here.
FAILURES = {
    "ccxt#2599: executed after the client's timeout, never recorded": (
        "flows/test_trading.py::test_a_lost_reply_is_doubt_and_then_the_truth",
    ),
    "catalyst#317 #315: ordered again after a read timeout": (
        "benchmarks/test_proof_orders.py::test_a_broken_rule_is_caught",
    ),
    "hummingbot#493: timeouts taken for failures": ("broker/test_local.py::test_replies_that_go_astray_leave_doubt",),
    "hummingbot#6901: failure told of an order that was placed": (
        "orders/test_lifecycle.py::test_no_answer_is_doubt_and_never_rejection",
    ),
    "hummingbot#3374: lost track after a network error, filled later": (
        "flows/test_trading.py::test_fills_the_stream_lost_are_fetched",
    ),
    "hummingbot#366: open orders forgotten after a restart": (
        "flows/test_trading.py::test_a_restart_takes_up_what_was_left",
    ),
    "hummingbot#720: orders sent while stopping": ("flows/test_live_trading.py::test_a_stop_leaves_no_entry_behind",),
    "hummingbot#1663: REST and stream recorded the same trades": (
        "orders/test_lifecycle.py::test_the_same_trade_twice_is_one_fill",
    ),
    "hummingbot#5122 #5896: cancelling an order that is not there for ever": (
        "orders/test_lifecycle.py::test_a_refused_cancel_is_a_question_not_an_answer",
    ),
    "hummingbot#8250 #4961: subscribed again, never recovered": (
        "stream/test_session.py::test_stale_topic_is_asked_for_again_and_recovers",
    ),
    "nautilus#4215: retried after the acknowledgement": (
        "flows/test_trading.py::test_a_refusal_of_the_second_request_says_nothing_of_the_first",
    ),
    "nautilus#4958: timeout became a rejection, position without an order": (
        "flows/test_trading.py::test_a_silent_broker_keeps_doubt",
    ),
    "nautilus#3046: fills replayed at a restart": (
        "journal/test_journal.py::test_a_busted_trade_never_counts_again",
        "orders/test_machine.py::TestOrders",
    ),
    "nautilus#5000: working orders dropped at start": (
        "benchmarks/test_proof_orders.py::test_every_kill_leaves_every_order_placed_once",
    ),
    "nautilus PR#3493: made-up and real fill both counted": (
        "orders/test_lifecycle.py::test_a_real_fill_takes_the_place_of_an_inferred_one",
    ),
    "nautilus PR#4522: marked as seen before it was applied": (
        "journal/test_journal.py::test_a_failed_commit_ends_trading",
    ),
    "nautilus#3317: the paper engine filled twice": ("broker/test_paper.py::test_a_filled_order_cannot_fill_again",),
    "nautilus PR#4991: replay after reconnect lost fills after a cancel": (
        "orders/test_permutations.py::test_the_order_of_arrival_changes_nothing",
    ),
    "nautilus#4564: a modification made two live orders": ("orders/test_fix_matrices.py::test_rows_of_the_matrix",),
    "nautilus#1533 #1933, Lean#2504: subscriptions not restored": (
        "stream/test_session.py::test_subscriptions_are_replayed_at_every_open",
    ),
    "nautilus#1339: reconnected without end": (
        "stream/test_session.py::test_accept_then_close_does_not_reset_the_backoff",
    ),
    "Lean.IB#242: ids of the broker rolled back": (
        "orders/test_lifecycle.py::test_ids_are_the_same_after_a_restart_and_differ_between_signals",
    ),
    "ib_insync#80 #308 #644: duplicate order ids": ("flows/test_trading.py::test_the_same_signal_is_the_same_order",),
    "ibx#317: a bounded window of seen executions": (
        "journal/test_journal.py::test_a_trade_counts_for_one_order",
        "orders/test_machine.py::TestOrders",
    ),
    "alpaca-py#740: silent socket for hours, then a storm": (
        "stream/test_session.py::test_pongs_do_not_feed_the_data_watchdog",
    ),
    "alpaca-trade-api-csharp#558: locked out by a dead connection": (
        "stream/test_service.py::test_a_lockout_by_our_own_dead_connection_heals_without_a_storm",
    ),
    "alpaca-py#260: an id used again after a cancel": (
        "broker/contract.py::test_the_same_id_after_the_end_is_the_same_order",
    ),
    "ccxt#23214 #20911 #13000: the book stops or repeats itself": (
        "stream/test_book.py::test_old_news_is_not_taken_for_new",
    ),
    "ccxt#29210: a snapshot merged into the old book": (
        "stream/test_book.py::test_a_gap_empties_the_book_and_asks_for_warm_up",
    ),
    "ccxt#23794: ids from milliseconds collide": (
        "orders/test_lifecycle.py::test_ids_are_the_same_after_a_restart_and_differ_between_signals",
    ),
    "ccxt#9456: user code blocks the pings": ("stream/test_socket.py::test_a_busy_consumer_loses_nothing",),
    "ccxt#18078: a fill told again at a later cancel": (
        "orders/test_permutations.py::test_the_order_of_arrival_changes_nothing",
    ),
    "cryptofeed#124 #545 #858 #893: the process lives, the data does not": (
        "stream/test_socket.py::test_a_silent_server_is_left_and_replaced",
    ),
    "freqtrade#4403 #2054 #4612: not found right after it was created": (
        "orders/test_guarantees.py::test_nothing_is_proved_while_the_request_may_live",
    ),
    "freqtrade#11725 #11821 #10597: stale candles for days": ("flows/test_live_strategies.py::test_silence_halts",),
    "freqtrade PR#13397: a forming candle stored as closed": (
        "stream/test_service.py::test_a_gap_is_refilled_before_the_stream_is_live_again",
    ),
    "freqtrade#10933: memory grows with the network's trouble": (
        "stream/test_mailbox_trades.py::test_overflow_is_counted_and_becomes_a_gap",
    ),
    "aiohttp#4153 PR#10544: the heartbeat closes in silence": (
        "stream/test_session.py::test_dead_link_is_noticed_within_six_seconds",
    ),
    "BTCT#427, nefertiti#55, ccxt#14639: 429 ignored until banned": (
        "broker/test_metered.py::test_nothing_is_sent_while_the_exchange_is_angry",
    ),
    "prefect#14219 #16746 #7766: SIGTERM not handled, runs left running": (
        "flows/test_live.py::test_every_ending_is_clean",
    ),
    "pybit#76, hyperliquid-python-sdk#191: nothing subscribed after a reconnect": (
        "stream/test_socket.py::test_subscriptions_are_restored_after_every_kind_of_end",
    ),
    "polygon-io/issues#11: slow consumers are dropped": (
        "stream/test_mailbox_trades.py::test_depth_and_ticker_conflate_to_the_latest",
    ),
    "trading-signals PR#1178, shobhit727/trade#43: POSTs of orders sent again": (
        "broker/test_ccxt.py::test_replies_that_go_astray_leave_doubt",
    ),
}


@cache
def _names(path: str) -> frozenset[str]:
    """Return every test, and everything assigned or defined, in a test file."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return frozenset(found)


def test_every_reported_failure_is_listed() -> None:
    """The list is as long as the record of design says."""
    assert len(FAILURES) == 43


@pytest.mark.parametrize("failure", FAILURES)
def test_a_test_stands_against_it(failure: str) -> None:
    """The tests that keep us from a failure of others exist."""
    for test in FAILURES[failure]:
        path, name = test.split("::")
        assert name in _names(path), f"{test} is gone: what keeps us from {failure} now?"
