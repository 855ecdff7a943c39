"""Fetching messages in place of receiving them: by position, as a consumer, and with a token that opens one polling endpoint."""

import json
import os
import urllib.request
from datetime import timedelta
from types import SimpleNamespace

from client import refused, until
from deliveries import now
from resources import HERE
from svix.api import ApplicationIn, EndpointIn, EventTypeIn, MessageIn
from svix.api.errors.http_error import HttpError
from svix.api.message_poller import MessagePollerConsumerPollOptions, MessagePollerPollOptions
from svix.models import Ordering, PollingEndpointConsumerSeekIn


def asked(path, body=None):
    """What none of the SDKs has a method for."""
    request = urllib.request.Request(
        f"{os.environ['SENDOFF_URL']}/api/v1{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Bearer {os.environ['SENDOFF_TOKEN']}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


async def destinations_by_hand(svix, _):
    """What `destinations` leaves behind, for a client that has no methods for it."""
    await svix.application.create(ApplicationIn(name="Puller", uid="puller"))
    asked("/app/puller/destination", {"type": "pollingEndpoint", "uid": "pull"})


async def destinations(svix, _):
    from svix.api.destination import DestinationListOptions
    from svix.models import DestinationIn, DestinationPatch, DestinationStatus, DestinationStatusIn

    await svix.application.create(ApplicationIn(name="Puller", uid="puller"))
    given = DestinationIn(type="pollingEndpoint", uid="pull", channels=["eu"], metadata={"plan": "pro"})
    made = await svix.destination.create("puller", given)
    assert made.id.startswith("poll_") and (made.type, made.config) == ("pollingEndpoint", {})
    assert (made.uid, made.status, made.channels, made.metadata) == ("pull", DestinationStatus.ENABLED, ["eu"], {"plan": "pro"})
    assert await svix.destination.get("puller", "pull") == await svix.destination.get("puller", made.id) == made
    patched = await svix.destination.patch("puller", "pull", DestinationPatch(type="pollingEndpoint", channels=None))
    assert (patched.channels, patched.metadata) == (None, {"plan": "pro"})
    replaced = await svix.destination.upsert("puller", "pull", DestinationIn(type="pollingEndpoint", channels=[]))
    assert (replaced.id, replaced.uid, replaced.channels, replaced.metadata) == (made.id, "pull", None, {})
    disabled = DestinationIn(type="pollingEndpoint", status=DestinationStatusIn.DISABLED)
    other = await svix.destination.upsert("puller", "other", disabled)
    assert other.status == DestinationStatus.DISABLED
    listed = await svix.destination.list("puller", DestinationListOptions(order=Ordering.DESCENDING, limit=9))
    assert [one.id for one in listed.data] == [other.id, made.id] and listed.done
    async with refused(409, "conflict"):
        await svix.destination.create("puller", given)
    async with refused(422, loc=["body", "type"]):
        await svix.destination.create("puller", DestinationIn(type="fifoEndpoint", config={"url": HERE}))
    async with refused(409, "conflict"):
        await svix.message.poller.poll("puller", "other")
    await svix.destination.delete("puller", "other")
    async with refused(404, "not_found"):
        await svix.destination.get("puller", "other")


async def polling(svix, _):
    poll = svix.message.poller.poll
    begin = await poll("puller", "pull")
    assert (begin.data, begin.done) == ([], True)
    sent = []
    for number in range(5):
        given = MessageIn(event_type="t.even" if number % 2 == 0 else "t.odd", payload={"number": number}, channels=["eu"])
        sent.append(await svix.message.create("puller", given))
    ids = [one.id for one in sent]
    page, found = begin, []
    while not found or not page.done:
        page = await poll("puller", "pull", MessagePollerPollOptions(limit=2, iterator=page.iterator))
        found += page.data
    assert [one.id for one in found] == ids
    assert [one.payload for one in found] == [{"number": number} for number in range(5)]
    assert (found[1].event_type, found[1].channels, found[1].timestamp) == ("t.odd", ["eu"], sent[1].timestamp)
    end = await poll("puller", "pull", MessagePollerPollOptions(iterator=page.iterator))
    assert (end.data, end.done) == ([], True)
    odd = await poll("puller", "pull", MessagePollerPollOptions(event_type="t.odd", channel="eu", after=now() - timedelta(hours=1)))
    assert [one.id for one in odd.data] == [ids[1], ids[3]]
    assert (await poll("puller", "pull", MessagePollerPollOptions(channel="us"))).data == []
    async with refused(422, loc=["query", "after"]):
        await poll("puller", "pull", MessagePollerPollOptions(after=now() + timedelta(hours=1)))
    async with refused(422, loc=["query", "iterator"]):
        await poll("puller", "pull", MessagePollerPollOptions(iterator="nonsense"))

    async def consume(**options):
        return await svix.message.poller.consumer_poll("puller", "pull", "c", MessagePollerConsumerPollOptions(**options))

    first = await consume(limit=3)
    assert [one.id for one in first.data] == ids[:3] and not first.done
    assert (await consume(limit=3)).data == first.data, "until it says that it has them"
    rest = await consume(iterator=first.iterator)
    assert [one.id for one in rest.data] == ids[3:] and rest.done
    assert (await consume(iterator=rest.iterator)).data == []
    async with refused(409, "conflict"):
        await consume(iterator=first.iterator)
    seek = svix.message.poller.consumer_seek
    back = await seek("puller", "pull", "c", PollingEndpointConsumerSeekIn(after=sent[0].timestamp))
    assert [one.id for one in (await consume(iterator=back.iterator)).data] == ids
    async with refused(409, "conflict"):
        await consume(iterator=rest.iterator)
    async with refused(422, loc=["body", "after"]):
        await seek("puller", "pull", "c", PollingEndpointConsumerSeekIn(after=now() + timedelta(hours=1)))


async def polling_tokens(svix, _):
    path = "/auth/app/puller/poller/pull/token"
    old = asked(f"{path}/rotate", {})["token"]
    new = asked(f"{path}/rotate", {"expiry": 3600, "oldTokenExpiry": 60})
    assert new["token"].startswith("sk_poll_") and new["token"] != old and new["expiresAt"]
    told = asked(path)
    assert told["id"] == new["id"] and told["token"] != new["token"]
    for token in (old, new["token"]):
        reader = svix.showing(token)
        assert len((await reader.message.poller.poll("puller", "pull")).data) == 5
        await reader.message.poller.consumer_poll("puller", "pull", "by-token")
        async with refused(403, "permission_denied"):
            await reader.message.list("puller")
        async with refused(404, "not_found"):
            await reader.message.poller.poll("puller", "another")
        async with refused(404, "not_found"):
            await reader.message.poller.poll("shop", "pull")


async def autoconfig(svix, receiver):
    """A receiver's own program subscribes with the one token that it was given."""
    from svix import AutoConfig, AutoConfigConsumer
    from svix.api_internal.message_pollerv2 import MessagePollerv2ConsumerPollOptions
    from svix.models import CreateAutoConfigSubscriptionIn, RotateSubscriptionIn2, SinkInCommon, StartingPosition

    await svix.application.create(ApplicationIn(name="Auto", uid="auto"))
    await svix.event_type.create(EventTypeIn(name="t.auto", description=""))
    given = await svix.autoconfig_subscription.create("auto", CreateAutoConfigSubscriptionIn())

    def own(kind, *given):
        """A program's client: its methods are sync, with async ones beside them."""
        made = kind(*given)

        def method(name):
            async def call(*given, **named):
                if svix._kind == "sync":
                    return getattr(made, name)(*given, **named)
                return await getattr(made, f"{name}_async")(*given, **named)

            return call

        return SimpleNamespace(subscribe=method("subscribe"), receive=method("receive"), commit=method("commit"), made=made)

    program = own(AutoConfig, given.token, EndpointIn(url=receiver.url("/auto"), uid="auto"))
    endpoint = await program.subscribe()
    assert (endpoint.url, endpoint.uid) == (receiver.url("/auto"), "auto")
    assert (await program.subscribe()).id == endpoint.id, "the same endpoint"
    await svix.message.create("auto", MessageIn(event_type="t.auto", payload={"by": "push"}))
    [arrived] = await receiver.arrived("/auto", 1)
    program.made.verify(arrived.body, arrived.headers)
    assert json.loads(arrived.body) == {"by": "push"}

    reader = own(AutoConfigConsumer, given.token, SinkInCommon(uid="queue", event_types=["t.auto"], metadata={"k": "v"}))
    queue = await reader.subscribe()
    assert (queue.uid, queue.type, queue.metadata) == ("queue", "pollingEndpoint", {"k": "v"})
    # Another program of the same customer, which has not subscribed itself.
    other = own(AutoConfigConsumer, given.token, SinkInCommon())
    assert (await other.receive("c")).data == []
    ids = []
    for number in range(5):
        made = await svix.message.create("auto", MessageIn(event_type="t.auto", payload={"number": number}))
        ids.append(made.id)
    await svix.message.create("auto", MessageIn(event_type="t.other", payload={}))
    options = MessagePollerv2ConsumerPollOptions
    first = await reader.receive("worker", options(limit=3, lease_duration_ms=60_000))
    assert [one.id for one in first.data] == ids[:3] and not first.done
    assert [one.payload["number"] for one in first.data] == [0, 1, 2]
    async with refused(409, "conflict"):
        await other.receive("worker")
    await reader.commit("worker", first.data[0].offset)
    await reader.commit("worker", first.data[-1].offset)
    await reader.commit("worker", first.data[-1].offset)
    rest = await other.receive("worker", options(starting_position=StartingPosition.LATEST))
    assert [one.id for one in rest.data] == ids[3:] and rest.done
    # Its first answer might have been lost.
    await reader.commit("worker", first.data[-1].offset)
    async with refused(422, loc=["body", "offset"]):
        await reader.commit("worker", rest.data[-1].offset + 1)
    await other.commit("worker", rest.data[-1].offset)
    assert (await reader.receive("worker")).data == []
    lapsed = await reader.receive("slow", options(lease_duration_ms=1))
    again = await until("the lease ends", lambda: received(reader, "slow", options(lease_duration_ms=60_000)), bool)
    assert [one.id for one in again.data] == [one.id for one in lapsed.data]
    async with refused(409, "conflict"):
        await reader.commit("slow", lapsed.data[-1].offset)
    await reader.commit("slow", again.data[-1].offset)

    told = asked(f"/app/auto/autoconfig/{given.id}")
    assert (told["status"], told["endpId"], told["destId"]) == ("active", endpoint.id, queue.id)
    rotated = await svix.autoconfig_subscription.rotate("auto", given.id, RotateSubscriptionIn2())
    assert rotated.id == given.id and rotated.token != given.token
    fresh = own(AutoConfig, rotated.token, EndpointIn(url=receiver.url("/auto"), uid="auto"))
    assert (await fresh.subscribe()).id == endpoint.id
    await receiver.arrived("/auto", 7)
    await svix.message.create("auto", MessageIn(event_type="t.auto", payload={"by": "push again"}))
    arrived = await receiver.arrived("/auto", 8)
    for verify in (fresh.made.verify, program.made.verify):
        # Both secrets sign for a while.
        verify(arrived[-1].body, arrived[-1].headers)
    assert json.loads(arrived[-1].body) == {"by": "push again"}
    await svix.autoconfig_subscription.delete("auto", given.id)


async def received(reader, name, options):
    try:
        return await reader.receive(name, options)
    except HttpError as error:
        assert error.status_code == 409, error
        return None
