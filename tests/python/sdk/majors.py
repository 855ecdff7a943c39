"""What the two majors of the `svix` client call by different names. Teams that move over still use the old one."""

import svix.api
import svix.models

# Version 1 has no methods for destinations, no `get_attempt_stats`, and fewer fields of operational endpoints.
OLD = not hasattr(svix.api.Application, "upsert")
# Methods of version 2, and what they were before.
METHODS = {"upsert": "update", "set_headers": "update_headers"} if OLD else {}


def model(name):
    """What makes the model of this name in version 2."""
    if not OLD:
        return getattr(svix.models, name)
    made = getattr(svix.models, name.replace("UpsertIn", "Update"))

    def make(**fields):
        if "event_types" in fields:
            fields["filter_types"] = fields.pop("event_types")
        known = {field: value for field, value in fields.items() if field in made.model_fields}
        assert set(fields) - set(known) <= {"headers", "grace_period_seconds"}, fields
        return made(**known)

    return make


EndpointIn, EndpointPatch, EndpointUpsertIn = model("EndpointIn"), model("EndpointPatch"), model("EndpointUpsertIn")
EventTypeUpsertIn = model("EventTypeUpsertIn")
OperationalWebhookEndpointIn = model("OperationalWebhookEndpointIn")
OperationalWebhookEndpointSecretIn = model("OperationalWebhookEndpointSecretIn")
OperationalWebhookEndpointUpsertIn = model("OperationalWebhookEndpointUpsertIn")

if OLD:
    for shown in (svix.models.EndpointOut, svix.models.OperationalWebhookEndpointOut):
        shown.event_types = property(lambda self: self.filter_types)
