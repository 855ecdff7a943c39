"""Messages: with their ids and contents, in lists, and of the kinds that there are."""

from datetime import datetime, timedelta, timezone

from client import both_ways, refused
from majors import OLD
from svix.api import ApplicationIn, MessageCreateOptions, MessageGetOptions, MessageIn, MessageListOptions
from svix.api.message import message_in_raw


async def messages(svix, _):
    before = datetime.now(timezone.utc)
    paid = MessageIn(event_type="invoice.paid", event_id="ev-1", payload={"z": 1, "a": [1, 2]}, channels=["eu"])
    once = MessageCreateOptions(with_content=True, idempotency_key="message-1")
    made = await svix.message.create("acme", paid, once)
    assert made.id.startswith("msg_") and made.payload == {"z": 1, "a": [1, 2]} and made.channels == ["eu"]
    assert (made.event_type, made.event_id, made.timestamp >= before) == ("invoice.paid", "ev-1", True)
    assert await svix.message.create("acme", paid, once) == made
    async with refused(422, loc=["header", "idempotency-key"]):
        await svix.message.create("acme", MessageIn(event_type="invoice.paid", payload={}), once)
    second = await svix.message.create("acme", MessageIn(event_type="invoice.paid", payload={"n": 2}))
    bare = await svix.message.create("acme", MessageIn(event_type="other.type", payload={"x": "y"}))
    # The old client puts in what it has sent, where nothing is said of contents.
    assert bare.payload == ({"x": "y"} if OLD else {}) and bare.event_id is None
    for name in ("ev-1", made.id):
        assert await svix.message.get("acme", name, MessageGetOptions(with_content=True)) == made
    # The new client asks for no content where nothing is said; the server gives it where nobody asks.
    assert (await svix.message.get("acme", made.id)).payload == (made.payload if OLD else {})
    async with refused(409, "conflict"):
        await svix.message.create("acme", paid)
    async with refused(404, "not_found"):
        await svix.message.create("nobody", MessageIn(event_type="invoice.paid", payload={}))
    async with refused(404, "not_found"):
        await svix.message.get("acme", "ev-2")
    async with refused(413, "payload_too_large"):
        await svix.message.create("acme", MessageIn(event_type="t", payload={"x": "y" * 300_000}))
    async with refused(422, loc=["body", "deliverAt"]):
        await svix.message.create("acme", MessageIn(event_type="t", payload={}, deliver_at=before + timedelta(days=31)))
    async with refused(422, loc=["body", "eventType"]):
        await svix.message.create("acme", MessageIn(event_type="no spaces", payload={}))

    async def listed(**options):
        return [found.id for found in (await svix.message.list("acme", MessageListOptions(**options))).data]

    everything = [bare.id, second.id, made.id]
    assert await listed() == everything
    assert await listed(event_types=["invoice.paid", "x"]) == [second.id, made.id]
    assert await listed(channel="eu") == [made.id] and await listed(channel="us") == []
    assert await listed(before=before) == [] and await listed(after=before) == everything
    assert await listed(before=second.timestamp) == [second.id, made.id]
    assert await listed(after=second.timestamp) == [bare.id, second.id]
    await both_ways(lambda **page: svix.message.list("acme", MessageListOptions(**page)), everything)
    shown = (await svix.message.list("acme", MessageListOptions(limit=1, with_content=True))).data
    assert shown[0].payload == {"x": "y"}


async def messages_of_all_kinds(svix, _):
    at = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(hours=2)
    whole = MessageCreateOptions(with_content=True)
    application = ApplicationIn(name="Kinds", uid="kinds")
    scheduled = MessageIn(
        event_type="t", payload={"a": 1}, tags=["x", "y"], deliver_at=at, payload_retention_hours=12, application=application
    )
    made = await svix.message.create("kinds", scheduled, whole)
    assert (made.tags, made.deliver_at, made.payload) == (["x", "y"], at, {"a": 1})
    assert (await svix.application.get("kinds")).name == "Kinds"
    raw = await svix.message.create("kinds", message_in_raw("t", "a=1", "text/plain"), whole)
    assert (raw.payload, raw.tags, raw.deliver_at) == ({}, None, None)

    async def tagged(tag):
        return [found.id for found in (await svix.message.list("kinds", MessageListOptions(tag=tag))).data]

    assert await tagged("x") == [made.id] and await tagged("z") == []
    await svix.message.expunge_content("kinds", made.id)
    gone = await svix.message.get("kinds", made.id, MessageGetOptions(with_content=True))
    assert (gone.payload, gone.event_type, gone.tags) == ({"expired": True}, "t", ["x", "y"])
    async with refused(404, "not_found"):
        await svix.message.expunge_content("kinds", "nothing")
    await svix.application.delete("kinds")
