"""What did our endpoint miss? The nightly reconciliation of a receiver, in plain Python: it tells Sendoff the ids of what has arrived since a
time, and what is missing is sent again.

    SENDOFF_URL=https://hooks.example.com SENDOFF_TOKEN=… \\
        python3 reconcile.py acme ep_… 2026-11-21T00:00:00Z seen.txt

SENDOFF_TOKEN is a token of the one application (the team that runs Sendoff makes it: `sendoff token --app app_…`). seen.txt has a
`webhook-id` on each line: your receiver notes it when it has stored a message. What arrives twice has the same `webhook-id` both times.
"""

import json
import os
import sys
import time
import urllib.request

API = os.environ.get("SENDOFF_URL", "http://127.0.0.1:8071").rstrip("/") + "/api/v1"
MOST = 10_000  # ids that one request names


def call(method, path, body=None):
    request = urllib.request.Request(API + path, method=method, data=body and json.dumps(body).encode())
    request.add_header("authorization", f"Bearer {os.environ['SENDOFF_TOKEN']}")
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def main(application, endpoint, since, seen_file):
    with open(seen_file, encoding="utf-8") as lines:
        seen = sorted({line.strip() for line in lines} - {""})
    compared = resent = 0
    for begin in range(0, max(len(seen), 1), MOST):
        wanted = {"since": since, "has": seen[begin:begin + MOST], "hasMore": begin + MOST < len(seen),
                  "iterator": seen[begin - 1] if begin else None, "resend": True}
        task = call("POST", f"/app/{application}/endpoint/{endpoint}/reconcile", wanted)
        while task["status"] == "running":
            time.sleep(0.2)
            task = call("GET", f"/background-task/{task['id']}")
        if task["status"] == "failed":
            sys.exit(f"it ended early: {task['data']['reason']}")
        compared += task["data"]["looked"]
        resent += task["data"]["sent"]
    print(f"{compared} messages compared, {resent} sent again")


if __name__ == "__main__":
    main(*sys.argv[1:])
