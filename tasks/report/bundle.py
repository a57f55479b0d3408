"""Everything the page carries with it: plotly.js, its own script and the figures.

plotly.js is 4.8 MB of text; gzip and base64 bring it to 2 MB, and the browser unpacks it with DecompressionStream
(Chromium 80, Firefox 113, Safari 16.4). The page loads nothing else, and its Content-Security-Policy lets it load
nothing else.
"""

from __future__ import annotations

import base64
import gzip
import json
from functools import cache
from importlib import resources
from typing import Any

from markupsafe import Markup

MAX_PAGE_BYTES = 5_000_000


@cache
def plotly_js() -> Markup:
    """Return the installed package's plotly.min.js, gzipped and in base64; the same bytes every time."""
    source = resources.files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    packed = gzip.compress(source, compresslevel=9, mtime=0)
    return Markup(base64.b64encode(packed).decode("ascii"))  # noqa: S704 - base64 has no character HTML minds


def embed_json(value: Any) -> Markup:
    """Return `value` as JSON that is safe inside a ``<script>`` element, whatever strings it holds."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    escaped = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Markup(escaped)  # noqa: S704 - the three characters that could end the element are escaped above


def asset(name: str) -> Markup:
    """Return one of our own template files as it is: style sheet or script."""
    return Markup(resources.files("tasks.report").joinpath("templates", name).read_text("utf-8"))  # noqa: S704
