"""Nightly reconciliation for a receiver, in plain Python: sends Sendoff the ids of the messages received since a time, and
has the missing ones sent again, under the same ids.

    SENDOFF_URL=https://hooks.example.com SENDOFF_TOKEN=… python3 reconcile.py acme ep_… 2026-11-21T00:00:00Z seen.txt

SENDOFF_TOKEN is a token for one application: `sendoff token --app app_…`. seen.txt has one `webhook-id` per line.
"""

import json, os, sys, time, urllib.request

MAX_IDS = 10_000  # per request


def call(path, body=None):
    request = urllib.request.Request(os.environ["SENDOFF_URL"] + "/api/v1" + path, body and json.dumps(body).encode())
    request.add_header("authorization", f"Bearer {os.environ['SENDOFF_TOKEN']}")
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


application, endpoint, since, seen_file = sys.argv[1:]
seen = sorted(set(open(seen_file, encoding="utf-8").read().split()))
compared = resent = 0
for begin in range(0, max(len(seen), 1), MAX_IDS):
    body = {"since": since, "has": seen[begin:begin + MAX_IDS], "hasMore": begin + MAX_IDS < len(seen),
            "iterator": seen[begin - 1] if begin else None, "resend": True}
    task = call(f"/app/{application}/endpoint/{endpoint}/reconcile", body)
    while task["status"] == "running":
        time.sleep(0.2)
        task = call(f"/background-task/{task['id']}")
    if task["status"] == "failed":
        sys.exit(f"the reconciliation failed: {task['data']['reason']}")
    compared, resent = compared + task["data"]["looked"], resent + task["data"]["sent"]
print(f"{compared} messages compared, {resent} sent again")
