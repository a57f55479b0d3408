-- The journal is the truth; the other tables are its fold, written in the same transaction.
CREATE TABLE IF NOT EXISTS journal (
    seq INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    wall_ns INTEGER NOT NULL,
    mono_ns INTEGER NOT NULL,
    client_order_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    payload BLOB NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS journal_by_order ON journal (client_order_id, seq) WHERE client_order_id <> '';
CREATE INDEX IF NOT EXISTS journal_by_kind ON journal (kind, seq) WHERE kind IN ('operator', 'account');
CREATE INDEX IF NOT EXISTS journal_by_rare_kind ON journal (kind, seq) WHERE kind IN ('limits', 'day');
CREATE TRIGGER IF NOT EXISTS journal_keeps_lines BEFORE UPDATE ON journal
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER IF NOT EXISTS journal_drops_nothing BEFORE DELETE ON journal
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;

CREATE TABLE IF NOT EXISTS head (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    schema_version INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS signals (signal_key TEXT PRIMARY KEY, client_order_id TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS orders (client_order_id TEXT PRIMARY KEY, status TEXT NOT NULL, state BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS fills (
    account TEXT NOT NULL,
    symbol TEXT NOT NULL,
    trade_id TEXT NOT NULL,
    client_order_id TEXT NOT NULL,
    PRIMARY KEY (account, symbol, trade_id)
) STRICT;
CREATE TABLE IF NOT EXISTS positions (
    account TEXT NOT NULL,
    symbol TEXT NOT NULL,
    quantity TEXT NOT NULL,
    PRIMARY KEY (account, symbol)
) STRICT;
