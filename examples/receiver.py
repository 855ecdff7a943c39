"""A receiver in plain Python: checks the signature, and prints what came. Needs nothing but Python 3.10.

    SECRET=whsec_… python3 examples/receiver.py          # listens on 127.0.0.1:9000, or on the port that is named

Sendoff does not send to private addresses by itself: to try this on one machine, start it with
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
TOLERANCE = 5 * 60  # seconds: older requests may be recordings that somebody plays back


def is_genuine(headers, body):
    """Standard Webhooks 1.0.0, `v1`: HMAC-SHA256 over id.timestamp.body, and a time close to now."""
    message_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    signed = f"{message_id}.{timestamp}.".encode() + body
    right = "v1," + base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    # Several while a secret is being changed. compare_digest takes the same time for every wrong one.
    given = headers.get("webhook-signature", "").split(" ")
    if not any(hmac.compare_digest(one.encode(), right.encode()) for one in given):
        return False
    # Signed, so it is what the sender wrote: a number.
    return abs(time.time() - int(timestamp)) <= TOLERANCE


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        # The bytes as they came: JSON that was parsed and written again has another signature.
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        genuine = is_genuine(self.headers, body)
        if genuine:
            # Do the work later: note it down, and answer within the timeout. The same webhook-id may come twice.
            print(self.headers["webhook-id"], body.decode(), flush=True)
        self.send_response(204 if genuine else 401)
        self.end_headers()

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9000
    ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()
