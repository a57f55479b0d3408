"""What every test shares: no Prefect state of the user's is touched, and nothing phones home."""

from __future__ import annotations

import os
import tempfile

# Before anything imports Prefect, which reads these once.
os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="klinehouse-tests-")
os.environ["DO_NOT_TRACK"] = "1"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ.pop("PREFECT_API_URL", None)
