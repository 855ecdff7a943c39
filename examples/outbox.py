"""The outbox from a team's own code: a row of its own and the event, in one transaction. Plain Python and SQLite.

    python3 examples/outbox.py sendoff.db acme

The order exists if and only if its event is delivered: both are committed, or neither. (With PostgreSQL it is the same, with
`sendoff.outbox` in place of `outbox`: see outbox.sql.)
"""

import json
import sqlite3
import sys

database, application = sys.argv[1:]
# Another process writes to this file as well: wait for its turn to end in place of failing.
connection = sqlite3.connect(database, timeout=5)
connection.execute("CREATE TABLE IF NOT EXISTS shop_order (id INTEGER PRIMARY KEY, total REAL NOT NULL)")

with connection:  # commits at the end, rolls back on an exception
    order = connection.execute("INSERT INTO shop_order (total) VALUES (?)", (48.5,)).lastrowid
    connection.execute(
        "INSERT INTO outbox (application, event_type, payload, event_id) VALUES (?, ?, ?, ?)",
        (application, "order.created", json.dumps({"orderId": order, "total": 48.5}), f"order-{order}-created"),
    )

print(f"order {order} and its event are committed")
