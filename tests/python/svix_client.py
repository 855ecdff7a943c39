"""Walks through the API with the official `svix` client, as its users do; says "all is well" at the end.

SENDOFF_URL and SENDOFF_TOKEN say where and as whom. There must be an application `tried` with a message `tried-1`, and of
that three attempts (503, no answer, 200) to the endpoint whose id is the one argument.
"""

import os
import sys
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

from svix.api import (
    ApplicationIn,
    ApplicationListOptions,
    ApplicationPatch,
    AppPortalAccessIn,
    EndpointIn,
    EndpointListOptions,
    EndpointPatch,
    EndpointSecretRotateIn,
    EventTypeIn,
    EventTypeListOptions,
    EventTypePatch,
    MessageAttemptListByEndpointOptions,
    MessageAttemptListByMsgOptions,
    MessageCreateOptions,
    MessageGetOptions,
    MessageIn,
    MessageListOptions,
    OperationalWebhookEndpointIn,
    OperationalWebhookEndpointListOptions,
    Svix,
    SvixOptions,
)
from svix.api.background_task import BackgroundTaskListOptions
from svix.api.endpoint import EndpointGetAttemptStatsOptions, EndpointUpsertIn
from svix.api.errors.http_error import HttpError
from svix.api.errors.http_validation_error import HTTPValidationError
from svix.api.message import message_in_raw
from svix.api.event_type import EventTypeDeleteOptions, EventTypeUpsertIn
from svix.api.message_attempt import MessageAttemptListAttemptedMessagesOptions
from svix.api.operational_webhook_endpoint import (
    OperationalWebhookEndpointHeadersIn,
    OperationalWebhookEndpointSecretIn,
    OperationalWebhookEndpointUpsertIn,
)
from svix.models import (
    AppPortalCapability,
    BulkReplayIn,
    EndpointHeadersIn,
    EndpointHeadersPatchIn,
    EventExampleIn,
    MessageStatus,
    MessageStatusText,
    Ordering,
    RecoverIn,
    ReplayIn,
    StatusCodeClass,
)

HERE = "http://127.0.0.1:9/hook"
svix = Svix(os.environ["SENDOFF_TOKEN"], SvixOptions(server_url=os.environ["SENDOFF_URL"], retry_schedule=[]))


@contextmanager
def refused(status, code=None, loc=None):
    """The call inside is refused with this status, code and place."""
    try:
        yield
    except HTTPValidationError as error:
        assert error.status_code == status, error
        assert loc is None or [list(item.loc) for item in error.detail] == [loc], error
    except HttpError as error:
        assert (error.status_code, error.code) == (status, code), error
        assert error.detail
    else:
        raise AssertionError(f"this was not refused with {status}")


def applications():
    app = svix.application.create(ApplicationIn(name="Acme", uid="acme", throttle_rate=10, metadata={"plan": "pro"}))
    assert app.id.startswith("app_") and app.uid == "acme" and app.throttle_rate == 10 and app.metadata == {"plan": "pro"}
    assert abs(app.created_at - datetime.now(timezone.utc)) < timedelta(minutes=1)
    assert svix.application.get("acme") == app == svix.application.get(app.id)
    assert svix.application.get_or_create(ApplicationIn(name="other", uid="acme")) == app
    with refused(409, "conflict"):
        svix.application.create(ApplicationIn(name="Acme", uid="acme"))
    with refused(422, loc=["body", "uid"]):
        svix.application.create(ApplicationIn(name="Acme", uid="app_x"))
    with refused(404, "not_found"):
        svix.application.get("nobody")
    patched = svix.application.patch(app.id, ApplicationPatch(throttle_rate=None))
    assert patched.throttle_rate is None and patched.name == "Acme" and patched.metadata == {"plan": "pro"}
    replaced = svix.application.upsert("acme", ApplicationIn(name="Acme 2", uid="acme"))
    assert (replaced.id, replaced.name, replaced.metadata) == (app.id, "Acme 2", {})
    assert svix.application.upsert("put-made", ApplicationIn(name="Made")).uid == "put-made"
    one = svix.application.list(ApplicationListOptions(limit=1, order=Ordering.DESCENDING))
    assert [found.uid for found in one.data] == ["put-made"] and not one.done
    two = svix.application.list(ApplicationListOptions(limit=1, order=Ordering.DESCENDING, iterator=one.iterator))
    assert [found.uid for found in two.data] == ["acme"]
    svix.application.delete("put-made")
    assert {found.uid for found in svix.application.list().data} == {"tried", "acme"}


def event_types():
    made = svix.event_type.create(
        EventTypeIn(name="invoice.paid", description="Paid", schemas={"1": {"type": "object"}}, feature_flags=["beta"], group_name="invoice")
    )
    assert made.schemas == {"1": {"type": "object"}} and made.feature_flags == ["beta"] and made.group_name == "invoice"
    assert svix.event_type.get("invoice.paid") == made
    patched = svix.event_type.patch("invoice.paid", EventTypePatch(description="Paid in full", feature_flags=None))
    assert (patched.description, patched.feature_flags, patched.group_name) == ("Paid in full", [], "invoice")
    assert svix.event_type.upsert("invoice.sent", EventTypeUpsertIn(description="Sent")).name == "invoice.sent"
    with refused(409, "conflict"):
        svix.event_type.create(EventTypeIn(name="invoice.sent", description=""))
    svix.event_type.delete("invoice.sent")
    assert [found.name for found in svix.event_type.list().data] == ["invoice.paid"]
    all_of_them = svix.event_type.list(EventTypeListOptions(include_archived=True, with_content=True))
    assert [found.archived for found in all_of_them.data] == [False, True] and all_of_them.data[0].schemas
    svix.event_type.delete("invoice.sent", EventTypeDeleteOptions(expunge=True))
    with refused(404, "not_found"):
        svix.event_type.get("invoice.sent")


def endpoints():
    made = svix.endpoint.create(
        "acme",
        EndpointIn(url=HERE, uid="main", description="d", event_types=["invoice.paid"], channels=["eu"], throttle_rate=50,
                   metadata={"a": "b"}, headers={"x-api-key": "hush"}),
    )
    assert made.id.startswith("ep_") and made.event_types == ["invoice.paid"] and made.channels == ["eu"]
    assert svix.endpoint.get("acme", "main") == made
    patched = svix.endpoint.patch("acme", made.id, EndpointPatch(channels=None, disabled=True))
    assert patched.channels is None and patched.disabled and patched.throttle_rate == 50
    replaced = svix.endpoint.upsert("acme", "main", EndpointUpsertIn(url=HERE + "2"))
    assert (replaced.url, replaced.event_types, replaced.disabled, replaced.uid) == (HERE + "2", None, False, "main")
    second = svix.endpoint.upsert("acme", "second", EndpointUpsertIn(url=HERE))
    assert [found.id for found in svix.endpoint.list("acme").data] == [made.id, second.id]
    assert [found.id for found in svix.endpoint.list("acme", EndpointListOptions(order=Ordering.DESCENDING)).data] == [second.id, made.id]
    svix.endpoint.delete("acme", "second")
    with refused(404, "not_found"):
        svix.endpoint.get("acme", "second")
    with refused(422, loc=["body", "url"]):
        svix.endpoint.create("acme", EndpointIn(url="http://10.0.0.1/"))
    with refused(422, loc=["body", "eventTypes"]):
        svix.endpoint.create("acme", EndpointIn(url=HERE, event_types=["no.such"]))
    key = svix.endpoint.get_secret("acme", "main").key
    assert key.startswith("whsec_")
    rotated = svix.endpoint.rotate_secret("acme", "main", EndpointSecretRotateIn(grace_period_seconds=60)).key
    assert rotated != key and svix.endpoint.get_secret("acme", "main").key == rotated
    svix.endpoint.rotate_secret("acme", "main", EndpointSecretRotateIn(key=key))
    assert svix.endpoint.get_secret("acme", "main").key == key
    with refused(422, loc=["body", "gracePeriodSeconds"]):
        svix.endpoint.rotate_secret("acme", "main", EndpointSecretRotateIn(grace_period_seconds=604801))
    assert svix.endpoint.get_headers("acme", "main").sensitive == ["x-api-key"]
    svix.endpoint.set_headers("acme", "main", EndpointHeadersIn(headers={"x-region": "eu", "cookie": "a=b"}))
    shown = svix.endpoint.get_headers("acme", "main")
    assert (shown.headers, shown.sensitive) == ({"x-region": "eu"}, ["cookie"])
    svix.endpoint.patch_headers("acme", "main", EndpointHeadersPatchIn(headers={"x-a": "1"}, delete_headers=["Cookie"]))
    shown = svix.endpoint.get_headers("acme", "main")
    assert (shown.headers, shown.sensitive) == ({"x-region": "eu", "x-a": "1"}, [])
    with refused(422, loc=["body", "headers"]):
        svix.endpoint.set_headers("acme", "main", EndpointHeadersIn(headers={"webhook-id": "x"}))


def messages():
    before = datetime.now(timezone.utc)
    made = svix.message.create(
        "acme",
        MessageIn(event_type="invoice.paid", event_id="ev-1", payload={"z": 1, "a": [1, 2]}, channels=["eu"]),
        MessageCreateOptions(with_content=True),
    )
    assert made.id.startswith("msg_") and made.payload == {"z": 1, "a": [1, 2]} and made.channels == ["eu"]
    bare = svix.message.create("acme", MessageIn(event_type="other.type", payload={"x": "y"}))
    assert bare.payload == {} and bare.event_id is None
    assert svix.message.get("acme", "ev-1", MessageGetOptions(with_content=True)) == made
    assert svix.message.get("acme", made.id).payload == {}
    with refused(409, "conflict"):
        svix.message.create("acme", MessageIn(event_type="invoice.paid", event_id="ev-1", payload={}))
    with refused(404, "not_found"):
        svix.message.create("nobody", MessageIn(event_type="invoice.paid", payload={}))
    with refused(413, "payload_too_large"):
        svix.message.create("acme", MessageIn(event_type="t", payload={"x": "y" * 300_000}))
    with refused(422, loc=["body", "deliverAt"]):
        svix.message.create("acme", MessageIn(event_type="t", payload={}, deliver_at=before + timedelta(days=31)))

    def listed(**options):
        return [found.id for found in svix.message.list("acme", MessageListOptions(**options)).data]

    assert listed() == [bare.id, made.id]
    assert listed(event_types=["invoice.paid", "x"]) == [made.id] == listed(channel="eu")
    assert listed(before=before) == [] and listed(after=before) == [bare.id, made.id]
    first = svix.message.list("acme", MessageListOptions(limit=1, with_content=True))
    assert first.data[0].payload == {"x": "y"} and not first.done
    second = svix.message.list("acme", MessageListOptions(limit=1, iterator=first.iterator))
    assert [found.id for found in second.data] == [made.id] and second.done and second.iterator is None
    back = svix.message.list("acme", MessageListOptions(limit=1, iterator=second.prev_iterator))
    assert [found.id for found in back.data] == [bare.id]


def messages_of_all_kinds():
    at = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(hours=2)
    made = svix.message.create(
        "kinds",
        MessageIn(event_type="t", payload={"a": 1}, tags=["x", "y"], deliver_at=at, payload_retention_hours=12,
                  application=ApplicationIn(name="Kinds", uid="kinds")),
        MessageCreateOptions(with_content=True),
    )
    assert (made.tags, made.deliver_at, made.payload) == (["x", "y"], at, {"a": 1})
    assert svix.application.get("kinds").name == "Kinds"
    raw = svix.message.create("kinds", message_in_raw("t", "a=1", "text/plain"), MessageCreateOptions(with_content=True))
    assert (raw.payload, raw.tags, raw.deliver_at) == ({}, None, None)

    def tagged(tag):
        return [found.id for found in svix.message.list("kinds", MessageListOptions(tag=tag)).data]

    assert tagged("x") == [made.id] and tagged("z") == []
    svix.message.expunge_content("kinds", made.id)
    assert svix.message.get("kinds", made.id, MessageGetOptions(with_content=True)).payload == {}
    with refused(404, "not_found"):
        svix.message.expunge_content("kinds", "nothing")
    svix.application.delete("kinds")


def attempts(endpoint):
    def by_message(**options):
        return svix.message_attempt.list_by_msg("tried", "tried-1", MessageAttemptListByMsgOptions(**options)).data

    newest, timed_out, oldest = by_message(with_content=True)
    assert (newest.status, newest.status_text) == (MessageStatus.SUCCESS, MessageStatusText.SUCCESS)
    assert (oldest.status, oldest.response_status_code, timed_out.response_status_code) == (MessageStatus.FAIL, 503, 0)
    assert newest.response == "résumé <b>" and newest.response_duration_ms == 42 and newest.endpoint_id == endpoint
    assert by_message()[0].response == ""
    assert [one.id for one in by_message(status=MessageStatus.FAIL)] == [timed_out.id, oldest.id]
    assert [one.id for one in by_message(status_code_class=StatusCodeClass.CODE5XX)] == [oldest.id]
    assert len(by_message(endpoint_id=endpoint, event_types=["t.a"])) == 3 and by_message(channel="none") == []
    options = MessageAttemptListByEndpointOptions(with_msg=True, limit=2)
    by_endpoint = svix.message_attempt.list_by_endpoint("tried", endpoint, options)
    assert [one.id for one in by_endpoint.data] == [newest.id, timed_out.id] and not by_endpoint.done
    assert by_endpoint.data[0].msg.event_id == "tried-1"
    assert svix.message_attempt.get("tried", "tried-1", oldest.id).response == "résumé <b>"
    svix.message_attempt.expunge_content("tried", "tried-1", oldest.id)
    assert [one.response for one in by_message(with_content=True)] == ["résumé <b>", "résumé <b>", ""]
    assert by_message(tag="x") == []
    stands = svix.message_attempt.list_attempted_destinations("tried", "tried-1").data
    assert [(one.id, one.status) for one in stands] == [(endpoint, MessageStatus.SUCCESS)]
    svix.message_attempt.resend("tried", "tried-1", endpoint)
    stands = svix.message_attempt.list_attempted_destinations("tried", "tried-1").data
    assert stands[0].status_text == MessageStatusText.PENDING and stands[0].next_attempt
    with refused(404, "not_found"):
        svix.message_attempt.resend("tried", "nothing", endpoint)


def operational_webhooks():
    ops = svix.operational_webhook.endpoint
    assert ops.list().data == []
    made = ops.create(OperationalWebhookEndpointIn(
        url=HERE, uid="ops", description="d", event_types=["endpoint.disabled"], throttle_rate=5, metadata={"a": "b"},
        headers={"x-team": "ops", "x-api-key": "hush"},
    ))
    assert made.id.startswith("ep_") and made.event_types == ["endpoint.disabled"] and made.throttle_rate == 5
    assert ops.get("ops") == made and ops.get(made.id) == made
    headers = ops.get_headers("ops")
    assert (headers.headers, headers.sensitive) == ({"x-team": "ops"}, ["x-api-key"])
    ops.set_headers("ops", OperationalWebhookEndpointHeadersIn(headers={"x-team": "other"}))
    assert ops.get_headers("ops").headers == {"x-team": "other"}
    replaced = ops.upsert("ops", OperationalWebhookEndpointUpsertIn(url=HERE + "2", disabled=True))
    assert (replaced.id, replaced.url, replaced.disabled, replaced.event_types) == (made.id, HERE + "2", True, None)
    second = ops.upsert("second", OperationalWebhookEndpointUpsertIn(url=HERE))
    assert [found.id for found in ops.list().data] == [made.id, second.id]
    newest = ops.list(OperationalWebhookEndpointListOptions(limit=1, order=Ordering.DESCENDING))
    assert [found.id for found in newest.data] == [second.id] and not newest.done and newest.iterator
    key = ops.get_secret("ops").key
    ops.rotate_secret("ops", OperationalWebhookEndpointSecretIn(grace_period_seconds=60))
    assert ops.get_secret("ops").key.startswith("whsec_") and ops.get_secret("ops").key != key
    with refused(422, loc=["body", "eventTypes"]):
        ops.create(OperationalWebhookEndpointIn(url=HERE, event_types=["invoice.paid"]))
    assert {found.uid for found in svix.application.list().data} == {"tried", "acme"}
    ops.delete("ops")
    ops.delete(second.id)
    with refused(404, "not_found"):
        ops.get("ops")
def what_an_endpoint_was_sent(endpoint):
    hour = timedelta(hours=1)
    now = datetime.now(timezone.utc)

    def listed(**options):
        found = svix.message_attempt.list_attempted_messages("tried", endpoint, MessageAttemptListAttemptedMessagesOptions(**options))
        assert found.done and found.iterator is None
        return found.data

    (one,) = listed(with_content=True, after=now - hour, event_types=["t.a"])
    assert one.event_id == "tried-1" and one.payload == {"a": 1}
    assert (one.status, one.status_text) == (MessageStatus.PENDING, MessageStatusText.PENDING) and one.next_attempt
    assert listed()[0].payload == {} and len(listed(status=MessageStatus.PENDING)) == 1
    assert listed(status=MessageStatus.FAIL) == listed(status=MessageStatus.SENDING) == listed(before=now - hour) == []
    stats = svix.endpoint.get_stats("tried", endpoint)
    assert (stats.success, stats.pending, stats.sending, stats.fail, stats.canceled) == (0, 1, 0, 0, 0)
    tries = svix.endpoint.get_attempt_stats("tried", endpoint, EndpointGetAttemptStatsOptions(since=now - hour, until=now + hour))
    assert (tries.success, tries.fail, tries.canceled) == (1, 2, 0)

    with refused(422, loc=["body", "eventType"]):
        svix.endpoint.send_example("tried", endpoint, EventExampleIn(event_type="no.such"))
    example = svix.endpoint.send_example("tried", endpoint, EventExampleIn(event_type="invoice.paid"))
    assert example.id.startswith("msg_") and example.event_type == "invoice.paid" and example.payload == {}

    begun = svix.endpoint.recover("tried", endpoint, RecoverIn(since=now - hour))
    assert begun.id.startswith("qtask_") and (begun.status, begun.task) == ("running", "endpoint.recover")
    with refused(422, loc=["body", "since"]):
        svix.endpoint.recover("tried", endpoint, RecoverIn(since=now - timedelta(days=15)))
    missing = svix.endpoint.replay_missing("tried", endpoint, ReplayIn(since=now - hour, until=now))
    assert missing.task == "endpoint.replay"
    bulk = svix.endpoint.bulk_replay("tried", endpoint, BulkReplayIn(since=now - hour, event_types=["t.a"], status=MessageStatus.FAIL))
    assert bulk.task == "endpoint.bulk-replay"
    seen = svix.background_task.get(begun.id)
    assert seen.id == begun.id and seen.data["endpointId"] == endpoint
    assert [one.id for one in svix.background_task.list().data] == [bulk.id, missing.id, begun.id]
    options = BackgroundTaskListOptions(limit=1, order=Ordering.ASCENDING, status="running", task="endpoint.recover")
    assert [one.id for one in svix.background_task.list(options).data] == [begun.id]


def customers():
    made = ApplicationIn(name="Visitor")
    access = svix.authentication.app_portal_access("visitor", AppPortalAccessIn(application=made, expiry=3600))
    assert "/portal/enter/" in access.url
    visitor = Svix(access.token, SvixOptions(server_url=os.environ["SENDOFF_URL"], retry_schedule=[]))
    visitor.endpoint.create("visitor", EndpointIn(url=HERE))
    with refused(404, "not_found"):
        visitor.endpoint.list("tried")
    with refused(403, "permission_denied"):
        visitor.message.create("visitor", MessageIn(event_type="t.a", payload={}))
    looks = AppPortalAccessIn(capabilities=[AppPortalCapability.VIEW_BASE], feature_flags=["beta"], session_id="s")
    looks = svix.authentication.app_portal_access("visitor", looks)
    looker = Svix(looks.token, SvixOptions(server_url=os.environ["SENDOFF_URL"], retry_schedule=[]))
    assert len(looker.endpoint.list("visitor").data) == 1
    with refused(403, "permission_denied"):
        looker.endpoint.create("visitor", EndpointIn(url=HERE))
    visitor.authentication.logout()
    with refused(401, "authentication_failed"):
        visitor.endpoint.list("visitor")
    looker.endpoint.list("visitor")


def strangers():
    stranger = Svix("nonsense", SvixOptions(server_url=os.environ["SENDOFF_URL"], retry_schedule=[]))
    with refused(401, "authentication_failed"):
        stranger.application.list()
    stranger.health.get()


applications()
event_types()
endpoints()
messages()
messages_of_all_kinds()
attempts(sys.argv[1])
operational_webhooks()
what_an_endpoint_was_sent(sys.argv[1])
customers()
strangers()
print("all is well")
