"""Writes an order and its event to the outbox in one transaction, with plain Python and SQLite.

    python3 examples/outbox.py sendoff.db acme

If the transaction commits, the event is delivered; if it rolls back, it never is. With PostgreSQL the table is
`sendoff.outbox`: see outbox.sql.
"""

import json
import sqlite3
import sys

database, application = sys.argv[1:]
# Sendoff writes to the same file: wait for its lock instead of failing.
connection = sqlite3.connect(database, timeout=5)
connection.execute("CREATE TABLE IF NOT EXISTS shop_order (id INTEGER PRIMARY KEY, total REAL NOT NULL)")

with connection:  # commits at the end, rolls back on an exception
    order = connection.execute("INSERT INTO shop_order (total) VALUES (?)", (48.5,)).lastrowid
    connection.execute(
        "INSERT INTO outbox (application, event_type, payload, event_id) VALUES (?, ?, ?, ?)",
        (application, "order.created", json.dumps({"orderId": order, "total": 48.5}), f"order-{order}-created"),
    )

print(f"order {order} and its event are committed")
