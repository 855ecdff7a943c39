"""What arrives at a receiver, and what the API says of it: attempts, counts, and having things sent again."""

import json
from datetime import datetime, timedelta, timezone

import standardwebhooks
import svix.api.endpoint as svix_endpoint
from client import both_ways, refused, until
from majors import OLD, EndpointIn
from receiver import ANSWER, HANG_UP, accepts
from svix.api import (
    ApplicationIn,
    EndpointSecretRotateIn,
    MessageAttemptListByEndpointOptions,
    MessageAttemptListByMsgOptions,
    MessageIn,
)
from svix.api.background_task import BackgroundTaskListOptions
from svix.api.endpoint import EndpointGetStatsOptions, EndpointRecoverOptions
from svix.api.endpoint import EndpointSendExampleOptions
from svix.api.message import message_in_raw
from svix.api.message_attempt import MessageAttemptListAttemptedMessagesOptions, MessageAttemptResendOptions
from svix.models import (
    BulkReplayIn,
    EventExampleIn,
    MessageAttemptTriggerType,
    MessageStatus,
    MessageStatusText,
    Ordering,
    RecoverIn,
    ReplayIn,
    StatusCodeClass,
)
from svix.webhooks import Webhook

HOUR = timedelta(hours=1)
OTHER = "whsec_" + "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def now():
    return datetime.now(timezone.utc)


async def what_arrives(svix, receiver):
    await svix.application.create(ApplicationIn(name="Shop", uid="shop"))
    await svix.endpoint.create("shop", EndpointIn(url=receiver.url("/main"), uid="main", headers={"x-region": "eu"}))

    async def send(count, message):
        """What arrives of this message, the so-manieth of all."""
        made = await svix.message.create("shop", message)
        delivery = (await receiver.arrived("/main", count))[-1]
        assert delivery.headers["webhook-id"] == made.id
        return delivery

    async def key():
        return (await svix.endpoint.get_secret("shop", "main")).key

    payload = {"amount": 12.5, "name": "Zo\u00eb \U0001f680"}
    one, first = await send(1, MessageIn(event_type="t", payload=payload)), await key()
    assert json.loads(one.body) == payload == standardwebhooks.Webhook(first).verify(one.body, one.headers)
    assert one.headers["content-type"] == "application/json" and one.headers["x-region"] == "eu"
    assert accepts(first, one) and not accepts(OTHER, one)
    one.body += b" "
    assert not accepts(first, one), "another body"

    await svix.endpoint.rotate_secret("shop", "main", EndpointSecretRotateIn(grace_period_seconds=600))
    two, second = await send(2, MessageIn(event_type="t", payload={})), await key()
    assert len(two.headers["webhook-signature"].split(" ")) == 2
    assert accepts(first, two) and accepts(second, two) and not accepts(OTHER, two)
    assert not accepts(second, one)
    third = "whsec_" + "c2VjcmV0cyBhcmUgbWFkZSBvZiAyNCBieXRlcyBvciBtb3Jl"
    await svix.endpoint.rotate_secret("shop", "main", EndpointSecretRotateIn(key=third, grace_period_seconds=0))
    three = await send(3, MessageIn(event_type="t", payload={}))
    assert accepts(third, three) and accepts(first, three) and not accepts(second, three), "only the last had no grace"

    raw = await send(4, message_in_raw("t", "a=1&b=\u00fc", "application/x-www-form-urlencoded"))
    assert raw.body == "a=1&b=\u00fc".encode() and raw.headers["content-type"] == "application/x-www-form-urlencoded"
    assert accepts(third, raw) and not accepts(OTHER, raw)
    due = now() + timedelta(seconds=1)
    assert (await send(5, MessageIn(event_type="t", payload={}, deliver_at=due))).at >= due


async def attempts(svix, receiver):
    await svix.application.create(ApplicationIn(name="Tried", uid="tried"))
    receiver.statuses["/flaky"] = [503, HANG_UP, 200]
    endpoint = (await svix.endpoint.create("tried", EndpointIn(url=receiver.url("/flaky"), uid="flaky"))).id
    message = MessageIn(event_type="t.a", event_id="tried-1", payload={"a": 1}, channels=["eu"], tags=["x"])
    message = await svix.message.create("tried", message)

    async def by_message(**options):
        return (await svix.message_attempt.list_by_msg("tried", "tried-1", MessageAttemptListByMsgOptions(**options))).data

    found = await until("three attempts", lambda: by_message(with_content=True), lambda found: len(found) == 3)
    newest, cut_off, oldest = found
    assert (newest.status, newest.status_text) == (MessageStatus.SUCCESS, MessageStatusText.SUCCESS)
    assert (oldest.status, oldest.status_text) == (MessageStatus.FAIL, MessageStatusText.FAIL)
    assert (newest.response_status_code, cut_off.response_status_code, oldest.response_status_code) == (200, 0, 503)
    assert newest.response == oldest.response == ANSWER and newest.response_duration_ms >= 0
    assert (newest.endpoint_id, newest.msg_id, newest.url) == (endpoint, message.id, receiver.url("/flaky"))
    assert newest.trigger_type == MessageAttemptTriggerType.SCHEDULED and newest.timestamp > oldest.timestamp
    assert (await by_message())[0].response == (ANSWER if OLD else "")
    ids = [one.id for one in found]
    await both_ways(lambda **page: svix.message_attempt.list_by_msg("tried", message.id, MessageAttemptListByMsgOptions(**page)), ids)
    for options, wanted in [
        ({"status": MessageStatus.FAIL}, ids[1:]),
        ({"status_code_class": StatusCodeClass.CODE5XX}, ids[2:]),
        ({"endpoint_id": "flaky", "event_types": ["t.a"], "tag": "x", "channel": "eu"}, ids),
        ({"channel": "none"}, []),
        ({"tag": "none"}, []),
        ({"event_types": ["t.b"]}, []),
        ({"after": oldest.timestamp}, ids),
        ({"before": oldest.timestamp}, ids[2:]),
    ]:
        assert [one.id for one in await by_message(**options)] == wanted, options
    page = MessageAttemptListByEndpointOptions
    await both_ways(lambda **given: svix.message_attempt.list_by_endpoint("tried", "flaky", page(**given)), ids)
    shown = (await svix.message_attempt.list_by_endpoint("tried", endpoint, page(with_msg=True, limit=1))).data
    assert shown[0].msg.event_id == "tried-1"
    for failed, wanted in [(MessageStatus.SUCCESS, ids[:1]), (MessageStatus.FAIL, ids[1:])]:
        shown = (await svix.message_attempt.list_by_endpoint("tried", endpoint, page(status=failed, event_types=["t.a"]))).data
        assert [one.id for one in shown] == wanted
    assert (await svix.message_attempt.get("tried", "tried-1", oldest.id)).response == ANSWER
    await svix.message_attempt.expunge_content("tried", "tried-1", oldest.id)
    assert [one.response for one in await by_message(with_content=True)] == [ANSWER, cut_off.response, "EXPUNGED"]
    async with refused(404, "not_found"):
        await svix.message_attempt.get("tried", "tried-1", message.id.replace("msg_", "atmpt_"))


async def messages_sent_to_an_endpoint_are_listed(svix, receiver):
    (endpoint,) = (await svix.endpoint.list("tried")).data

    async def listed(**options):
        options = MessageAttemptListAttemptedMessagesOptions(**options)
        found = await svix.message_attempt.list_attempted_messages("tried", "flaky", options)
        assert found.done and found.iterator == (found.data[-1].id if found.data else None)
        return found.data

    async def stands():
        (one,) = (await svix.message_attempt.list_attempted_destinations("tried", "tried-1")).data
        assert (one.id, one.uid, one.url) == (endpoint.id, "flaky", receiver.url("/flaky"))
        return one

    assert (await stands()).status == MessageStatus.SUCCESS and (await stands()).next_attempt is None
    (one,) = await listed(with_content=True, after=now() - HOUR, event_types=["t.a"], tag="x", channel="eu")
    assert (one.event_id, one.payload, one.tags, one.channels) == ("tried-1", {"a": 1}, ["x"], ["eu"])
    assert (one.status, one.status_text, one.next_attempt) == (MessageStatus.SUCCESS, MessageStatusText.SUCCESS, None)
    assert (await listed())[0].payload == ({"a": 1} if OLD else {}) and len(await listed(status=MessageStatus.SUCCESS)) == 1
    assert await listed(status=MessageStatus.FAIL) == await listed(before=now() - HOUR) == await listed(tag="y") == []
    stats = await svix.endpoint.get_stats("tried", "flaky")
    assert (stats.success, stats.pending, stats.sending, stats.fail, stats.canceled) == (1, 0, 0, 0, 0)
    stats = await svix.endpoint.get_stats("tried", "flaky", EndpointGetStatsOptions(until=now() - HOUR))
    assert stats.success == 0
    if not OLD:
        recent = svix_endpoint.EndpointGetAttemptStatsOptions(since=now() - HOUR, until=now() + HOUR)
        tries = await svix.endpoint.get_attempt_stats("tried", "flaky", recent)
        assert (tries.success, tries.fail, tries.canceled) == (1, 2, 0)

    once = MessageAttemptResendOptions(idempotency_key="resend-1")
    for _ in range(2):
        await svix.message_attempt.resend("tried", "tried-1", "flaky", once)
    again = (await receiver.arrived("/flaky", 4))[-1]
    assert again.headers["webhook-id"] == one.id
    await until("the resend is recorded", lambda: by_hand(svix), lambda found: len(found) == 1)
    async with refused(404, "not_found"):
        await svix.message_attempt.resend("tried", "nothing", endpoint.id)


async def by_hand(svix):
    found = (await svix.message_attempt.list_by_msg("tried", "tried-1")).data
    return [one for one in found if one.trigger_type == MessageAttemptTriggerType.MANUAL]


async def background_tasks(svix, receiver):
    await svix.application.create(ApplicationIn(name="Down", uid="down"))
    receiver.statuses["/down"] = [500]
    await svix.endpoint.create("down", EndpointIn(url=receiver.url("/down"), uid="was-down"))
    sent = {(await svix.message.create("down", MessageIn(event_type="t.a", payload={"n": n}))).id for n in range(2)}
    failed = MessageAttemptListAttemptedMessagesOptions(status=MessageStatus.FAIL)
    dead = lambda: svix.message_attempt.list_attempted_messages("down", "was-down", failed)
    await until("two dead deliveries", dead, lambda found: len(found.data) == 2)
    await receiver.arrived("/down", 6)

    async def ended(task):
        assert task.id.startswith("qtask_") and task.status == "running"
        done = await until("its end", lambda: svix.background_task.get(task.id), lambda one: one.status == "finished")
        assert (done.id, done.task, done.data["sent"]) == (task.id, task.task, 2), done

    def arrived_again(deliveries):
        assert {one.headers["webhook-id"] for one in deliveries} == sent and len(deliveries) == 2

    receiver.statuses["/down"] = [200]
    since, once = now() - HOUR, EndpointRecoverOptions(idempotency_key="recover-1")
    begun = await svix.endpoint.recover("down", "was-down", RecoverIn(since=since), once)
    assert begun.task == "endpoint.recover"
    assert (await svix.endpoint.recover("down", "was-down", RecoverIn(since=since), once)).id == begun.id
    await ended(begun)
    arrived_again((await receiver.arrived("/down", 8))[6:])
    async with refused(422, loc=["body", "since"]):
        await svix.endpoint.recover("down", "was-down", RecoverIn(since=now() - timedelta(days=15)))

    await svix.endpoint.create("down", EndpointIn(url=receiver.url("/late"), uid="late"))
    missing = await svix.endpoint.replay_missing("down", "late", ReplayIn(since=since, until=now()))
    assert missing.task == "endpoint.replay"
    await ended(missing)
    arrived_again(await receiver.arrived("/late", 2))
    stats = lambda: svix.endpoint.get_stats("down", "late")
    await until("both are recorded", stats, lambda stats: stats.success == 2)
    again = BulkReplayIn(since=since, event_types=["t.a"], status=MessageStatus.SUCCESS)
    bulk = await svix.endpoint.bulk_replay("down", "late", again)
    assert bulk.task == "endpoint.bulk-replay"
    await ended(bulk)
    arrived_again((await receiver.arrived("/late", 4))[2:])

    await both_ways(lambda **page: svix.background_task.list(BackgroundTaskListOptions(**page)), [bulk.id, missing.id, begun.id])
    options = BackgroundTaskListOptions(limit=1, order=Ordering.ASCENDING, status="finished", task="endpoint.recover")
    assert [one.id for one in (await svix.background_task.list(options)).data] == [begun.id]
    async with refused(404, "not_found"):
        await svix.background_task.get(bulk.id[:-4] + "0000")


async def examples(svix, receiver):
    key = (await svix.endpoint.create("shop", EndpointIn(url=receiver.url("/example"), uid="example", event_types=["invoice.paid"])))
    key = (await svix.endpoint.get_secret("shop", key.id)).key
    once = EndpointSendExampleOptions(idempotency_key="example-1")
    wanted = EventExampleIn(event_type="invoice.paid", example_index=1)
    made = [await svix.endpoint.send_example("shop", "example", wanted, once) for _ in range(2)]
    assert made[0] == made[1] and made[0].event_type == "invoice.paid" and made[0].payload == {"total": 2.5}
    (delivery,) = await receiver.arrived("/example", 1)
    Webhook(key).verify(delivery.body, delivery.headers)
    assert accepts(key, delivery) and json.loads(delivery.body) == {"total": 2.5}
    async with refused(422, loc=["body", "eventType"]):
        await svix.endpoint.send_example("shop", "example", EventExampleIn(event_type="no.such"))
