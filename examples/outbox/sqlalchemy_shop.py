"""Writes an order and its event to the outbox in one transaction, with SQLAlchemy 2 on PostgreSQL.

    DATABASE_URL=postgresql+psycopg://shop@localhost/shop python3 sqlalchemy_shop.py acme

SQLAlchemy inserts with RETURNING, so the role needs INSERT and SELECT (id) on the outbox. For the table of
`sendoff relay`, set OUTBOX=sendoff_outbox.
"""

import json
import os
import sys

from sqlalchemy import BigInteger, Numeric, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

schema, _, table = os.environ.get("OUTBOX", "sendoff.outbox").rpartition(".")


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "shop_order"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    total: Mapped[float] = mapped_column(Numeric(10, 2))


class OutboxEvent(Base):
    __tablename__ = table
    __table_args__ = {"schema": schema or None}

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    application: Mapped[str]
    event_type: Mapped[str]
    payload: Mapped[str]
    event_id: Mapped[str | None]


application = sys.argv[1]
engine = create_engine(os.environ["DATABASE_URL"])
Base.metadata.tables["shop_order"].create(engine, checkfirst=True)

with Session(engine) as session, session.begin():  # commits at the end, rolls back on an exception
    order = Order(total=48.5)
    session.add(order)
    session.flush()  # draws the order's id
    session.add(
        OutboxEvent(
            application=application,
            event_type="order.created",
            payload=json.dumps({"orderId": order.id, "total": 48.5}),
            event_id=f"sqlalchemy-order-{order.id}-created",
        )
    )

print("the order and its event are committed")
