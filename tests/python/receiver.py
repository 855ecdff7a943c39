"""Receivers as people write them, each verifying in its own way what Sendoff sends.

A request to /standard is verified with the official `standardwebhooks` library, one to /ed25519 with `cryptography`, those to
/github and /stripe with nothing but the standard library, following what those two services tell their customers to do.
Answers 204, or 400 with the reason. Prints its port and serves until standard input ends.
"""

import base64
import hashlib
import hmac
import http.server
import json
import os
import sys
import threading
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook

KEYS = json.loads(os.environ["KEYS"])


def standard(body, headers):
    Webhook(KEYS["/standard"]).verify(body, headers)


def ed25519(body, headers):
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(KEYS["/ed25519"].removeprefix("whpk_")))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    signatures = [part for part in headers["webhook-signature"].split(" ") if part.startswith("v1a,")]
    assert signatures, "no v1a signature"
    for part in signatures:
        key.verify(base64.b64decode(part.removeprefix("v1a,")), signed)


def github(path):
    def verify(body, headers):
        key = KEYS[path]
        raw = key.encode() if path == "/github" else base64.b64decode(key.removeprefix("whsec_"))
        expected = "sha256=" + hmac.new(raw, body, hashlib.sha256).hexdigest()
        assert hmac.compare_digest(expected, headers["x-hub-signature-256"]), "signatures differ"

    return verify


def stripe(path):
    def verify(body, headers):
        key = KEYS[path]
        raw = key.encode() if path == "/stripe" else base64.b64decode(key.removeprefix("whsec_"))
        parts = [part.split("=", 1) for part in headers["acme-signature"].split(",")]
        timestamp = next(value for name, value in parts if name == "t")
        assert abs(time.time() - int(timestamp)) < 300, "too old"
        expected = hmac.new(raw, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        assert any(name == "v1" and hmac.compare_digest(expected, value) for name, value in parts), "signatures differ"

    return verify


VERIFY = {
    "/standard": standard,
    "/ed25519": ed25519,
    "/github": github("/github"),
    "/github-bytes": github("/github-bytes"),
    "/stripe": stripe("/stripe"),
    "/stripe-bytes": stripe("/stripe-bytes"),
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            VERIFY[self.path](body, headers)
            status, answer = 204, b""
        except Exception as error:
            status, answer = 400, f"{type(error).__name__}: {error}".encode()
        self.send_response(status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
