"""A receiver as a customer would run it, which also remembers what arrived; and its check with both official libraries."""

import asyncio
import http.server
import json
import socket
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timezone

import standardwebhooks
import svix.webhooks

from client import SOON

HANG_UP = 0
ANSWER = "r\u00e9sum\u00e9 <b>"


@dataclass
class Delivery:
    body: bytes
    headers: dict
    at: datetime


class Receiver:
    """Answers each path with its statuses in turn; the last one goes on, and a path without any is answered with 200."""

    def __init__(self):
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = receiver.take(self.path, Delivery(body, headers, datetime.now(timezone.utc)))
                if status == HANG_UP:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                answer = ANSWER.encode()
                self.send_response(status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.statuses, self._arrived, self._lock = {}, {}, threading.Lock()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._port = server.server_port

    def url(self, path):
        return f"http://127.0.0.1:{self._port}{path}"

    def take(self, path, delivery):
        with self._lock:
            self._arrived.setdefault(path, []).append(delivery)
            statuses = self.statuses.get(path, [200])
            return statuses.pop(0) if len(statuses) > 1 else statuses[0]

    async def arrived(self, path, count):
        """What arrived at the path, once it is so much; more than that is wrong."""
        deadline = time.monotonic() + SOON
        while len(self._arrived.get(path, [])) < count:
            assert time.monotonic() < deadline, f"{path} waits in vain for the {count}th of {self._arrived.get(path)}"
            await asyncio.sleep(0.01)
        assert len(self._arrived[path]) == count, self._arrived[path]
        return list(self._arrived[path])


def accepts(key, delivery):
    """Whether a receiver with this secret takes the delivery for genuine; both libraries say the same."""

    def says(verify):
        try:
            verify()
        except svix.webhooks.WebhookVerificationError:
            return False
        except json.JSONDecodeError:
            # The old library reads the body as JSON once the signature is right.
            pass
        return True

    body, headers = delivery.body, delivery.headers
    one = says(lambda: svix.webhooks.Webhook(key).verify(body, headers))
    other = says(lambda: standardwebhooks.Webhook(key).verify(body, headers, json_parse=False))
    assert one == other, "the two libraries differ"
    return one
