"""Where journals are: the one folder and the names that whoever writes and whoever reads them agree on."""

from __future__ import annotations

from pathlib import Path

#: Folder for state on this machine, unless the setting KLINEHOUSE_STATE_DIR names another.
STATE_DIR = Path(".klinehouse")
#: The account that every run trades unless it is told otherwise.
PAPER = "paper"


def journal_path(state_dir: Path, account: str = PAPER) -> Path:
    """Return the file of an account's journal: every account has its own."""
    name = "".join(one if one.isalnum() or one in "-_" else "-" for one in account)
    return state_dir / ("journal.db" if account == PAPER else f"journal-{name}.db")
