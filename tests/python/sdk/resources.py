"""What a team sets up: applications, event types, endpoints with their secrets and headers."""

from datetime import datetime, timedelta, timezone

from client import both_ways, refused
from majors import OLD, EndpointIn, EndpointPatch, EndpointUpsertIn, EventTypeUpsertIn
from svix.api import (
    ApplicationIn,
    ApplicationListOptions,
    ApplicationPatch,
    EndpointListOptions,
    EndpointSecretRotateIn,
    EventTypeIn,
    EventTypeListOptions,
    EventTypePatch,
)
from svix.api.application import ApplicationCreateOptions
from svix.api.endpoint import EndpointCreateOptions, EndpointRotateSecretOptions
from svix.api.event_type import EventTypeCreateOptions, EventTypeDeleteOptions
from svix.models import EndpointHeadersIn, EndpointHeadersPatchIn, EventTypeImportOpenApiIn, Ordering

# Nobody is asked to send there.
HERE = "http://127.0.0.1:9/hook"


async def applications(svix, _):
    once = ApplicationCreateOptions(idempotency_key="app-1")
    acme = ApplicationIn(name="Acme", uid="acme", throttle_rate=10, metadata={"plan": "pro"})
    app = await svix.application.create(acme, once)
    assert app.id.startswith("app_") and app.uid == "acme" and app.throttle_rate == 10 and app.metadata == {"plan": "pro"}
    assert abs(app.created_at - datetime.now(timezone.utc)) < timedelta(minutes=1)
    assert await svix.application.create(acme, once) == app, "the same key, the first answer again"
    async with refused(422, loc=["header", "idempotency-key"]):
        await svix.application.create(ApplicationIn(name="Another"), once)
    assert await svix.application.get("acme") == app == await svix.application.get(app.id)
    assert await svix.application.get_or_create(ApplicationIn(name="other", uid="acme")) == app
    assert (await svix.application.get_or_create(ApplicationIn(name="New", uid="new"))).name == "New"
    async with refused(409, "conflict"):
        await svix.application.create(acme)
    async with refused(422, loc=["body", "uid"]):
        await svix.application.create(ApplicationIn(name="Acme", uid="app_x"))
    async with refused(404, "not_found"):
        await svix.application.get("nobody")
    patched = await svix.application.patch(app.id, ApplicationPatch(throttle_rate=None))
    assert patched.throttle_rate is None and patched.name == "Acme" and patched.metadata == {"plan": "pro"}
    assert patched.updated_at > app.updated_at and patched.created_at == app.created_at
    patched = await svix.application.patch(app.id, ApplicationPatch(uid=None, name="Nameless"))
    assert (patched.uid, patched.name) == (None, "Nameless")
    await svix.application.patch(app.id, ApplicationPatch(uid="acme"))
    replaced = await svix.application.upsert("acme", ApplicationIn(name="Acme 2", uid="acme"))
    assert (replaced.id, replaced.name, replaced.metadata) == (app.id, "Acme 2", {})
    assert (await svix.application.upsert("put-made", ApplicationIn(name="Made"))).uid == "put-made"
    ids = [one.id for one in (await svix.application.list()).data]
    assert len(ids) == 3 and ids[0] == app.id
    for order, wanted in [(Ordering.ASCENDING, ids), (Ordering.DESCENDING, ids[::-1])]:
        await both_ways(lambda **page: svix.application.list(ApplicationListOptions(order=order, **page)), wanted)
    async with refused(422, loc=["query", "limit"]):
        await svix.application.list(ApplicationListOptions(limit=251))
    await svix.application.delete("put-made")
    await svix.application.delete("new")
    assert [one.uid for one in (await svix.application.list()).data] == ["acme"]
    async with refused(404, "not_found"):
        await svix.application.delete("new")


async def event_types(svix, _):
    once = EventTypeCreateOptions(idempotency_key="type-1")
    paid = EventTypeIn(
        name="invoice.paid", description="Paid", schemas={"1": {"type": "object", "examples": [{"total": 1}, {"total": 2.5}]}},
        feature_flags=["beta"], group_name="invoice",
    )
    made = await svix.event_type.create(paid, once)
    assert made == await svix.event_type.create(paid, once) == await svix.event_type.get("invoice.paid")
    assert made.schemas == paid.schemas and made.feature_flags == ["beta"] and made.group_name == "invoice"
    assert (made.name, made.description, made.deprecated, made.archived) == ("invoice.paid", "Paid", False, False)
    patched = await svix.event_type.patch("invoice.paid", EventTypePatch(description="Paid in full", feature_flags=None))
    assert (patched.description, patched.feature_flags, patched.group_name) == ("Paid in full", [], "invoice")
    made = await svix.event_type.upsert("invoice.sent", EventTypeUpsertIn(description="Sent"))
    assert (made.name, made.schemas, made.group_name) == ("invoice.sent", None, None)
    again = await svix.event_type.upsert("invoice.sent", EventTypeUpsertIn(description="Sent off", deprecated=True))
    assert (again.description, again.deprecated, again.created_at) == ("Sent off", True, made.created_at)
    async with refused(409, "conflict"):
        await svix.event_type.create(EventTypeIn(name="invoice.sent", description=""))
    async with refused(422, loc=["body", "name"]):
        await svix.event_type.create(EventTypeIn(name="no spaces", description=""))
    await svix.event_type.create(EventTypeIn(name="invoice.void", description=""))
    await both_ways(
        lambda **page: svix.event_type.list(EventTypeListOptions(order=Ordering.DESCENDING, **page)),
        ["invoice.void", "invoice.sent", "invoice.paid"], key="name",
    )
    await svix.event_type.delete("invoice.sent")
    assert (await svix.event_type.get("invoice.sent")).archived
    shown = (await svix.event_type.list()).data
    assert [one.name for one in shown] == ["invoice.paid", "invoice.void"] and not shown[0].schemas
    shown = (await svix.event_type.list(EventTypeListOptions(include_archived=True, with_content=True))).data
    assert [one.archived for one in shown] == [False, True, False] and shown[0].schemas == paid.schemas
    await svix.event_type.delete("invoice.sent", EventTypeDeleteOptions(expunge=True))
    async with refused(404, "not_found"):
        await svix.event_type.get("invoice.sent")
    document = {"openapi": "3.1.0", "webhooks": {"invoice.imported": {"post": {"summary": "Imported."}}}}
    planned = (await svix.event_type.import_openapi(EventTypeImportOpenApiIn(spec=document, dry_run=True))).data
    assert planned.modified == [] and [one.name for one in planned.to_modify] == ["invoice.imported"]


async def endpoints(svix, _):
    once = EndpointCreateOptions(idempotency_key="endpoint-1")
    main = EndpointIn(
        url=HERE, uid="main", description="d", event_types=["invoice.paid"], channels=["eu"], throttle_rate=50,
        metadata={"a": "b"}, headers={"x-api-key": "hush"},
    )
    made = await svix.endpoint.create("acme", main, once)
    assert made.id.startswith("ep_") and (made.event_types, made.channels) == (["invoice.paid"], ["eu"])
    assert (made.url, made.uid, made.description, made.throttle_rate, made.disabled) == (HERE, "main", "d", 50, False)
    assert made.metadata == {"a": "b"} and "hush" not in made.model_dump_json()
    assert await svix.endpoint.create("acme", main, once) == made
    assert await svix.endpoint.get("acme", "main") == made == await svix.endpoint.get("acme", made.id)
    patched = await svix.endpoint.patch("acme", made.id, EndpointPatch(channels=None, disabled=True))
    assert (patched.channels, patched.disabled, patched.throttle_rate) == (None, True, 50)
    patched = await svix.endpoint.patch("acme", "main", EndpointPatch(throttle_rate=None, event_types=None))
    assert (patched.throttle_rate, patched.event_types, patched.description) == (None, None, "d")
    replaced = await svix.endpoint.upsert("acme", "main", EndpointUpsertIn(url=HERE + "2"))
    assert (replaced.id, replaced.url, replaced.disabled, replaced.uid) == (made.id, HERE + "2", False, "main")
    others = [(await svix.endpoint.upsert("acme", uid, EndpointUpsertIn(url=HERE))).id for uid in ("second", "third")]
    for order in Ordering:
        ids = [made.id, *others][:: 1 if order == Ordering.ASCENDING else -1]
        await both_ways(lambda **page: svix.endpoint.list("acme", EndpointListOptions(order=order, **page)), ids)
    for uid in ("second", "third"):
        await svix.endpoint.delete("acme", uid)
    async with refused(404, "not_found"):
        await svix.endpoint.get("acme", "second")
    async with refused(409, "conflict"):
        await svix.endpoint.create("acme", EndpointIn(url=HERE, uid="main"))
    async with refused(422, loc=["body", "url"]):
        await svix.endpoint.create("acme", EndpointIn(url="http://10.0.0.1/"))
    async with refused(422, loc=["body", "eventTypes"]):
        await svix.endpoint.create("acme", EndpointIn(url=HERE, event_types=["no.such"]))
    await secrets(svix)
    await headers(svix)


async def secrets(svix):
    key = (await svix.endpoint.get_secret("acme", "main")).key
    assert key.startswith("whsec_")
    rotation, once = EndpointSecretRotateIn(grace_period_seconds=60), EndpointRotateSecretOptions(idempotency_key="rotate-1")

    async def rotate(*given):
        answer = await svix.endpoint.rotate_secret("acme", "main", *given)
        # The old client gives nothing of the answer.
        return (await svix.endpoint.get_secret("acme", "main") if OLD else answer).key

    rotated = await rotate(rotation, once)
    assert rotated != key and (await svix.endpoint.get_secret("acme", "main")).key == rotated
    assert await rotate(rotation, once) == rotated, "rotated once"
    assert await rotate(EndpointSecretRotateIn(key=key)) == key
    assert (await svix.endpoint.get_secret("acme", "main")).key == key
    async with refused(422, loc=["body", "gracePeriodSeconds"]):
        await svix.endpoint.rotate_secret("acme", "main", EndpointSecretRotateIn(grace_period_seconds=604801))


async def headers(svix):
    shown = await svix.endpoint.get_headers("acme", "main")
    assert (shown.headers, shown.sensitive) == ({}, ["x-api-key"])
    await svix.endpoint.set_headers("acme", "main", EndpointHeadersIn(headers={"x-region": "eu", "cookie": "a=b"}))
    shown = await svix.endpoint.get_headers("acme", "main")
    assert (shown.headers, shown.sensitive) == ({"x-region": "eu"}, ["cookie"])
    await svix.endpoint.patch_headers("acme", "main", EndpointHeadersPatchIn(headers={"x-a": "1"}, delete_headers=["Cookie"]))
    shown = await svix.endpoint.get_headers("acme", "main")
    assert (shown.headers, shown.sensitive) == ({"x-region": "eu"}, ["x-a"])
    async with refused(422, loc=["body", "headers"]):
        await svix.endpoint.set_headers("acme", "main", EndpointHeadersIn(headers={"webhook-id": "x"}))
