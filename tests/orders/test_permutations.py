"""In whatever order events arrive, an order ends with the same quantity, average price and position.

The suite tries two hundred orders of arrival for each script; `make proof-lifecycles` all 151,200.
"""

from __future__ import annotations

import os
from decimal import Decimal
from itertools import permutations
from random import Random

import pytest

from tasks.orders.position import fold
from tests.orders.lifecycles import REQUEST, SCRIPTS, lived

TRIED = int(os.environ.get("PROOF_PERMUTATIONS", "200"))


def test_there_are_thirty_scripts_of_seven_events() -> None:
    """The proof's size is what its name says."""
    assert len(SCRIPTS) == 30
    assert {len(script.split()) for script in SCRIPTS} == {7}


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_order_of_arrival_changes_nothing(script: str) -> None:
    """Every permutation of a lifecycle, duplicates and snapshots included, ends alike."""
    status, quantity, value = SCRIPTS[script]
    every = list(permutations(script.split()))
    for words in Random(1).sample(every, min(TRIED, len(every))):
        state = lived(words)
        order = state.orders[REQUEST.client_order_id]
        assert order.status is status, words
        assert order.filled_quantity == quantity, words
        assert order.average_price == (Decimal(value) / quantity if quantity else None), words
        position = fold((REQUEST.side, fill) for fill in order.fills)
        assert position.quantity == state.positions.get((REQUEST.account, REQUEST.symbol), 0) == quantity, words
        assert abs(position.average_price * quantity - value) < Decimal("1e-20"), words
        assert not order.flags & {"overfilled", "unexpected_fill", "resurrected"}, words
