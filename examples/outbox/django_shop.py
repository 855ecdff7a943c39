"""Writes an order and its event to the outbox in one transaction, with Django 5 on PostgreSQL, in a single file.

    PGHOST=localhost PGUSER=shop PGDATABASE=shop python3 django_shop.py acme

In a project, `Order` and `OutboxEvent` go into models.py, and the transaction into a view. Django inserts with RETURNING,
so the role needs INSERT and SELECT (id) on the outbox. For the table of `sendoff relay`, set OUTBOX=sendoff_outbox.
"""

import json
import os
import sys

import django
from django.conf import settings

settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": os.environ["PGHOST"],
            "PORT": os.environ.get("PGPORT", "5432"),
            "USER": os.environ["PGUSER"],
            "NAME": os.environ["PGDATABASE"],
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.db import connection, models, transaction  # noqa: E402  (needs the settings)


class Order(models.Model):
    total = models.DecimalField(max_digits=10, decimal_places=2)

    class Meta:
        app_label = "shop"
        db_table = "shop_django_order"


class OutboxEvent(models.Model):
    application = models.TextField()
    event_type = models.TextField()
    payload = models.TextField()
    event_id = models.TextField(null=True)

    class Meta:
        app_label = "shop"
        managed = False  # Sendoff creates the table
        # Django quotes the whole name: the inner quotes end the schema and begin the table.
        db_table = os.environ.get("OUTBOX", "sendoff.outbox").replace(".", '"."')


application = sys.argv[1]
if Order._meta.db_table not in connection.introspection.table_names():
    with connection.schema_editor() as schema:
        schema.create_model(Order)

with transaction.atomic():  # commits at the end, rolls back on an exception
    order = Order.objects.create(total=48.5)
    OutboxEvent.objects.create(
        application=application,
        event_type="order.created",
        payload=json.dumps({"orderId": order.id, "total": 48.5}),
        event_id=f"django-order-{order.id}-created",
    )

print("the order and its event are committed")
