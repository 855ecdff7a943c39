"""What did our endpoint miss? The nightly reconciliation of a receiver, in plain Python: it asks Sendoff for everything that was meant
for its endpoint since a time, compares that with the ids of what has arrived, and has the rest sent again.

    SENDOFF_URL=https://hooks.example.com SENDOFF_TOKEN=… \\
        python3 reconcile.py acme ep_… 2026-11-21T00:00:00Z seen.txt

SENDOFF_TOKEN is a token of the one application (the team that runs Sendoff makes it: `sendoff token --app app_…`). seen.txt has a
`webhook-id` on each line: whatever your receiver notes down when it has taken a message in. What arrives twice because of this has the
same `webhook-id` both times, as always.
"""

import json
import os
import sys
import urllib.parse
import urllib.request

API = os.environ.get("SENDOFF_URL", "http://127.0.0.1:8071").rstrip("/") + "/api/v1"
TOKEN = os.environ["SENDOFF_TOKEN"]
PENDING = 1  # waits for its first attempt or for a retry: it will come by itself


def call(method, path, **query):
    """One call of the REST API; an answer that is none of success is an exception."""
    request = urllib.request.Request(f"{API}{path}?{urllib.parse.urlencode(query)}", method=method)
    request.add_header("authorization", f"Bearer {TOKEN}")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def meant_for(application, endpoint, since):
    """Every message for the endpoint that was accepted after `since`, the newest first, page by page."""
    iterator = ""
    while True:
        page = call("GET", f"/app/{application}/endpoint/{endpoint}/msg",
                    after=since, with_content="false", limit=250, iterator=iterator)
        yield from page["data"]
        # A page can be short, or even empty, without being the last: only `done` says that it is.
        if page["done"]:
            return
        iterator = page["iterator"]


def main(application, endpoint, since, seen_file):
    with open(seen_file, encoding="utf-8") as lines:
        seen = {line.strip() for line in lines}
    compared = resent = 0
    for message in meant_for(application, endpoint, since):
        compared += 1
        # Also what was answered with 2xx: if it is not in our books, we lost it after that.
        if message["id"] in seen or message["status"] == PENDING:
            continue
        call("POST", f"/app/{application}/msg/{message['id']}/endpoint/{endpoint}/resend")
        print(f"{message['id']} {message['eventType']} was {message['statusText']}: sent again", flush=True)
        resent += 1
    print(f"{compared} messages compared, {resent} sent again")


if __name__ == "__main__":
    main(*sys.argv[1:])
