"""Listens to operational webhooks as a team would: with the official `svix` client and its `Webhook.verify`; says "all is well" at the end.

SENDOFF_URL and SENDOFF_TOKEN say where and as whom; the server's schedule must have at least four waits, all of them short.
"""

import http.server
import json
import os
import queue
import threading
from datetime import datetime

from svix.api import ApplicationIn, EndpointIn, EndpointPatch, MessageIn, OperationalWebhookEndpointIn, Svix, SvixOptions
from svix.webhooks import Webhook, WebhookVerificationError

svix = Svix(os.environ["SENDOFF_TOKEN"], SvixOptions(server_url=os.environ["SENDOFF_URL"], retry_schedule=[]))
arrived = queue.Queue()
verified, heard, flaky = {}, set(), []


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response({"/ops": self.told, "/flaky": self.flaky, "/dead": lambda _: 500, "/gone": lambda _: 410}[self.path](body))
        self.send_header("content-length", "0")
        self.end_headers()

    def told(self, body):
        """Verified, but refused the first time."""
        try:
            verified["by"].verify(body, dict(self.headers))
        except WebhookVerificationError as error:
            arrived.put({"type": f"not verified: {error}"})
            return 400
        if self.headers["webhook-id"] not in heard:
            heard.add(self.headers["webhook-id"])
            return 503
        arrived.put(json.loads(body))
        return 204

    def flaky(self, _):
        flaky.append(1)
        return 204 if len(flaky) > 4 else 500

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=server.serve_forever, daemon=True).start()
here = f"http://127.0.0.1:{server.server_port}"


def next_events(count):
    """The next so many, by their types."""
    events = [arrived.get(timeout=30) for _ in range(count)]
    return {event["type"]: event["data"] for event in events}


ops = svix.operational_webhook.endpoint.create(OperationalWebhookEndpointIn(url=f"{here}/ops"))
verified["by"] = Webhook(svix.operational_webhook.endpoint.get_secret(ops.id).key)
app = svix.application.create(ApplicationIn(name="Acme", uid="acme"))

main = svix.endpoint.create("acme", EndpointIn(url=f"{here}/flaky", uid="main"))
data = {"appId": app.id, "appUid": "acme", "endpointId": main.id, "endpointUid": "main"}
assert next_events(1) == {"endpoint.created": data}
svix.message.create("acme", MessageIn(event_type="invoice.paid", event_id="ev-1", payload={"a": 1}))
events = next_events(2)
assert set(events) == {"message.attempt.failing", "message.attempt.recovered"}, events
failing = events["message.attempt.failing"]
assert (failing["endpointId"], failing["msgEventId"], failing["lastAttempt"]["responseStatusCode"]) == (main.id, "ev-1", 500)
attempt = svix.message_attempt.get("acme", failing["msgId"], failing["lastAttempt"]["id"])
assert attempt.timestamp == datetime.fromisoformat(failing["lastAttempt"]["timestamp"].replace("Z", "+00:00"))

svix.endpoint.patch("acme", "main", EndpointPatch(url=f"{here}/dead"))
assert next_events(1) == {"endpoint.updated": data}
svix.message.create("acme", MessageIn(event_type="invoice.paid", payload={"a": 2}))
events = next_events(2)
assert set(events) == {"message.attempt.failing", "message.attempt.exhausted"}, events
assert events["message.attempt.exhausted"]["msgEventId"] is None

svix.endpoint.patch("acme", "main", EndpointPatch(url=f"{here}/gone"))
next_events(1)
svix.message.create("acme", MessageIn(event_type="invoice.paid", payload={"a": 3}))
events = next_events(2)
assert set(events) == {"message.attempt.exhausted", "endpoint.disabled"}, events
assert events["message.attempt.exhausted"]["lastAttempt"]["responseStatusCode"] == 410
disabled = events["endpoint.disabled"]
assert disabled["trigger"] == "automatic" and disabled["failSince"], disabled
assert svix.endpoint.get("acme", "main").disabled
svix.endpoint.delete("acme", "main")
assert next_events(1) == {"endpoint.deleted": data}
assert arrived.empty()
print("all is well")
