"""Nightly reconciliation for a receiver, in plain Python: tells Sendoff the ids of the messages received since a time, and has the
missing ones sent again.

    SENDOFF_URL=https://hooks.example.com SENDOFF_TOKEN=… \\
        python3 reconcile.py acme ep_… 2026-11-21T00:00:00Z seen.txt

SENDOFF_TOKEN is a token for one application, from the team that runs Sendoff: `sendoff token --app app_…`. seen.txt has one
`webhook-id` per line, written by your receiver when it has stored a message. A repeated message has the same `webhook-id`.
"""

import json
import os
import sys
import time
import urllib.request

API = os.environ.get("SENDOFF_URL", "http://127.0.0.1:8071").rstrip("/") + "/api/v1"
MAX_IDS = 10_000  # per request


def call(method, path, body=None):
    request = urllib.request.Request(API + path, method=method, data=body and json.dumps(body).encode())
    request.add_header("authorization", f"Bearer {os.environ['SENDOFF_TOKEN']}")
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def main(application, endpoint, since, seen_file):
    with open(seen_file, encoding="utf-8") as lines:
        seen = sorted({line.strip() for line in lines} - {""})
    compared = resent = 0
    for begin in range(0, max(len(seen), 1), MAX_IDS):
        body = {"since": since, "has": seen[begin:begin + MAX_IDS], "hasMore": begin + MAX_IDS < len(seen),
                  "iterator": seen[begin - 1] if begin else None, "resend": True}
        task = call("POST", f"/app/{application}/endpoint/{endpoint}/reconcile", body)
        while task["status"] == "running":
            time.sleep(0.2)
            task = call("GET", f"/background-task/{task['id']}")
        if task["status"] == "failed":
            sys.exit(f"the reconciliation failed: {task['data']['reason']}")
        compared += task["data"]["looked"]
        resent += task["data"]["sent"]
    print(f"{compared} messages compared, {resent} sent again")


if __name__ == "__main__":
    main(*sys.argv[1:])
