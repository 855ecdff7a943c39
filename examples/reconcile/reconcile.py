"""Nightly reconciliation for a receiver, in plain Python: sends Sendoff a digest of the ids of the messages received since
a time, and has the missing ones sent again, under the same ids.

    SENDOFF_URL=https://hooks.example.com SENDOFF_TOKEN=… python3 reconcile.py acme ep_… 2026-11-21T00:00:00Z seen.txt

SENDOFF_TOKEN is a token for one application: `sendoff token --app app_…`. seen.txt has one `webhook-id` per line.
"""

import functools, hashlib, json, operator, os, sys, time, urllib.request


def call(path, body=None):
    request = urllib.request.Request(os.environ["SENDOFF_URL"] + "/api/v1" + path, body and json.dumps(body).encode())
    request.add_header("authorization", f"Bearer {os.environ['SENDOFF_TOKEN']}")
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def bucket(ids):
    hashes = (int(hashlib.sha256(id.encode()).hexdigest(), 16) for id in ids)
    return {"first": ids[0], "last": ids[-1], "count": len(ids), "xor": f"{functools.reduce(operator.xor, hashes):064x}"}


application, endpoint, since, seen_file = sys.argv[1:]
seen = sorted(set(open(seen_file, encoding="utf-8").read().split()))
size = max(50, len(seen) // 3_000 + 1)  # a request takes 3,000 buckets of up to 1,000 ids
digest = [bucket(seen[begin:begin + size]) for begin in range(0, len(seen), size)]
task = call(f"/app/{application}/endpoint/{endpoint}/reconcile", {"since": since, "digest": digest, "resend": True})
while task["status"] == "running":
    time.sleep(0.2)
    task = call(f"/background-task/{task['id']}")
if task["status"] == "failed":
    sys.exit(f"the reconciliation failed: {task['data']['reason']}")
print(f"{task['data']['looked']} messages compared, {task['data']['sent']} sent again")
