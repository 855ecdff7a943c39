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
    Svix,
    SvixOptions,
)
from svix.api.endpoint import EndpointUpsertIn
from svix.api.errors.http_error import HttpError
from svix.api.errors.http_validation_error import HTTPValidationError
from svix.api.message import message_in_raw
from svix.api.event_type import EventTypeDeleteOptions, EventTypeUpsertIn
from svix.models import MessageStatus, MessageStatusText, Ordering, StatusCodeClass

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
    with refused(501, "not_implemented"):
        svix.endpoint.get_headers("acme", "main")


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
strangers()
print("all is well")
