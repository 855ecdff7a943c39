"""What the team hears itself, whom it lets in, and who gets nowhere."""

import json

from client import both_ways, refused
from majors import (
    OLD,
    EndpointIn,
    OperationalWebhookEndpointIn,
    OperationalWebhookEndpointSecretIn,
    OperationalWebhookEndpointUpsertIn,
)
from receiver import accepts
from resources import HERE
from svix.api import (
    ApplicationIn,
    ApplicationTokenExpireIn,
    AppPortalAccessIn,
    MessageIn,
    OperationalWebhookEndpointListOptions,
)
from svix.api.operational_webhook_endpoint import (
    OperationalWebhookEndpointCreateOptions,
    OperationalWebhookEndpointHeadersIn,
)
from svix.models import AppPortalCapability, Ordering


async def operational_webhooks(svix, receiver):
    ops = svix.operational_webhook.endpoint
    assert (await ops.list()).data == []
    told = OperationalWebhookEndpointIn(
        url=receiver.url("/ops"), uid="ops", description="d", event_types=["endpoint.created"], throttle_rate=5,
        metadata={"a": "b"}, headers={"x-team": "ops", "x-api-key": "hush"},
    )
    once = OperationalWebhookEndpointCreateOptions(idempotency_key="ops-1")
    made = await ops.create(told, once)
    assert made.id.startswith("ep_") and made.event_types == ["endpoint.created"] and made.throttle_rate == 5
    assert made == await ops.create(told, once) == await ops.get("ops") == await ops.get(made.id)
    if OLD:
        # Which has no field for them.
        await ops.set_headers("ops", OperationalWebhookEndpointHeadersIn(headers={"x-team": "ops", "x-api-key": "hush"}))
    headers = await ops.get_headers("ops")
    assert (headers.headers, headers.sensitive) == ({"x-team": "ops"}, ["x-api-key"])
    key = (await ops.get_secret("ops")).key
    await ops.rotate_secret("ops", OperationalWebhookEndpointSecretIn(grace_period_seconds=60))
    rotated = (await ops.get_secret("ops")).key
    assert rotated.startswith("whsec_") and rotated != key

    app = await svix.application.get("shop")
    endpoint = await svix.endpoint.create("shop", EndpointIn(url=HERE, uid="told"))
    (delivery,) = await receiver.arrived("/ops", 1)
    assert accepts(rotated, delivery) and accepts(key, delivery) and delivery.headers["x-api-key"] == "hush"
    data = {"appId": app.id, "appUid": "shop", "endpointId": endpoint.id, "endpointUid": "told"}
    assert json.loads(delivery.body) == {"type": "endpoint.created", "data": data}

    await ops.set_headers("ops", OperationalWebhookEndpointHeadersIn(headers={"x-team": "other"}))
    assert (await ops.get_headers("ops")).headers == {"x-team": "other"}
    replaced = await ops.upsert("ops", OperationalWebhookEndpointUpsertIn(url=HERE + "2", disabled=True))
    assert (replaced.id, replaced.url, replaced.disabled, replaced.event_types) == (made.id, HERE + "2", True, None)
    others = [(await ops.upsert(uid, OperationalWebhookEndpointUpsertIn(url=HERE, disabled=True))).id for uid in ("b", "c")]
    for order, ids in [(Ordering.ASCENDING, [made.id, *others]), (Ordering.DESCENDING, [*reversed(others), made.id])]:
        await both_ways(lambda **page: ops.list(OperationalWebhookEndpointListOptions(order=order, **page)), ids)
    async with refused(422, loc=["body", "eventTypes"]):
        await ops.create(OperationalWebhookEndpointIn(url=HERE, event_types=["invoice.paid"]))
    uids = [found.uid for found in (await svix.application.list()).data]
    assert uids == ["acme", "shop", "tried", "down"], "no application is seen for it"
    for name in ("ops", *others):
        await ops.delete(name)
    async with refused(404, "not_found"):
        await ops.get("ops")


async def customers(svix, _):
    made = ApplicationIn(name="Visitor", uid="visitor")
    access = await svix.authentication.app_portal_access("visitor", AppPortalAccessIn(application=made, expiry=3600))
    assert "/portal/enter/" in access.url
    visitor = svix.showing(access.token)
    await visitor.endpoint.create("visitor", EndpointIn(url=HERE))
    async with refused(404, "not_found"):
        await visitor.endpoint.list("shop")
    async with refused(403, "permission_denied"):
        await visitor.message.create("visitor", MessageIn(event_type="t.a", payload={}))
    looks = AppPortalAccessIn(capabilities=[AppPortalCapability.VIEW_BASE], feature_flags=["beta"], session_id="s")
    looks = await svix.authentication.app_portal_access("visitor", looks)
    looker = svix.showing(looks.token)
    assert len((await looker.endpoint.list("visitor")).data) == 1
    async with refused(403, "permission_denied"):
        await looker.endpoint.create("visitor", EndpointIn(url=HERE))
    await visitor.authentication.logout()
    async with refused(401, "authentication_failed"):
        await visitor.endpoint.list("visitor")
    await looker.endpoint.list("visitor")
    async with refused(422, loc=["body", "expiry"]):
        await svix.authentication.app_portal_access("visitor", AppPortalAccessIn(expiry=59))
    if OLD:
        opened = await svix.authentication.dashboard_access("visitor")
        assert "/portal/enter/" in opened.url and opened.token
    await svix.authentication.expire_all("visitor", ApplicationTokenExpireIn())
    async with refused(401, "authentication_failed"):
        await looker.endpoint.list("visitor")


async def strangers(svix, _):
    stranger = svix.showing("nonsense")
    async with refused(401, "authentication_failed"):
        await stranger.application.list()
    await stranger.health.get()
