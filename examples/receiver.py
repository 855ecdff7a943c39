"""A receiver in plain Python 3.10: verifies signatures and prints messages.

    SECRET=whsec_… python3 examples/receiver.py          # add a port to replace 127.0.0.1:9000

Sendoff blocks private addresses by default. To try this on one machine, start it with
SENDOFF_EGRESS_ALLOW=127.0.0.1/32.
"""

import base64
import hashlib
import hmac
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = base64.b64decode(os.environ["SECRET"].removeprefix("whsec_"))
TOLERANCE = 5 * 60  # seconds; older requests may be replayed recordings


def is_valid(headers, body):
    """Verifies Standard Webhooks 1.0.0, `v1`: HMAC-SHA256 over id.timestamp.body, with a recent timestamp."""
    message_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    signed = f"{message_id}.{timestamp}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    # There are several during a secret rotation. compare_digest runs in constant time.
    given = headers.get("webhook-signature", "").split(" ")
    if not any(hmac.compare_digest(one.encode(), expected.encode()) for one in given):
        return False
    # The signature covers it, so it is a number.
    return abs(time.time() - int(timestamp)) <= TOLERANCE


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        # The raw bytes: parsing and re-serializing JSON would break the signature.
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        valid = is_valid(self.headers, body)
        if valid:
            # Store the message, respond within the timeout and process it later. A webhook-id may arrive twice.
            print(self.headers["webhook-id"], body.decode(), flush=True)
        self.send_response(204 if valid else 401)
        self.end_headers()

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9000
    ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()
