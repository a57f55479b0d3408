"""An S3 server in a process of its own: python bucket.py <folder of buckets>; prints its port.

Of its own, because pyarrow's view of object storage holds the interpreter while it waits for an answer.
"""

from __future__ import annotations

import sys
from http.server import ThreadingHTTPServer
from pathlib import Path
from xml.etree import ElementTree

from localbucket import S3Handler


class QuietHandler(S3Handler):
    """The server without its log of requests."""

    data_root = Path(sys.argv[1])
    disable_nagle_algorithm = True  # else every answer waits 40 ms for its own acknowledgement

    def _post_request(self, bucket: str, key: str) -> None:
        """Delete several objects, which the server itself does not offer."""
        if "delete" not in self.query:
            super()._post_request(bucket, key)
            return
        tree = ElementTree.fromstring(self.rfile.read(int(self.headers["Content-Length"])))  # noqa: S314  # from us
        answer = ElementTree.Element("DeleteResult")
        for found in tree.iter():
            if found.tag.endswith("Key") and found.text:
                self._object_path(bucket, found.text).unlink(missing_ok=True)
                ElementTree.SubElement(ElementTree.SubElement(answer, "Deleted"), "Key").text = found.text
        self._send_xml(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), QuietHandler)
    print(server.server_port, flush=True)
    server.serve_forever()
