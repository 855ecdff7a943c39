//! The demo's catalog: a shop's event types, and three customers with their endpoints.

use serde_json::{Map, Value, json};
use url::Url;

use super::super::CliError;
use super::receiver::{Behaviour, DemoReceiver, DemoRoute};
use crate::domain::catalog::application::{Application, ApplicationSpec};
use crate::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use crate::domain::catalog::event_type::EventTypeSpec;
use crate::domain::signing::secret::{Secret, SignatureType};
use crate::domain::signing::signature::Verifier;
use crate::domain::{AppId, OrgId, Time, Uid};
use crate::store::{Store, Tenant};

/// Event types with their descriptions.
pub(super) const EVENT_TYPES: [(&str, &str); 6] = [
    ("order.created", "A customer placed an order."),
    ("order.shipped", "An order left the warehouse."),
    ("invoice.paid", "An invoice was paid in full."),
    ("invoice.overdue", "An invoice is past its due date."),
    ("customer.updated", "A customer changed name, address or contact."),
    ("subscription.canceled", "A subscription will not be renewed."),
];

/// A payload for an event type; `number` makes it unique.
pub(super) fn payload(event_type: &str, number: u64) -> Value {
    let amount = 5.0 + (number * 37 % 9_000) as f64 / 100.0;
    match event_type {
        "order.created" => {
            json!({ "orderId": format!("ord-{number}"), "items": 1 + number % 5, "total": amount, "currency": "EUR" })
        }
        "order.shipped" => {
            json!({ "orderId": format!("ord-{number}"), "carrier": "Bluebird", "parcels": 1 + number % 2 })
        }
        "invoice.paid" => json!({ "invoiceId": format!("inv-{number}"), "amount": amount, "currency": "EUR" }),
        "invoice.overdue" => {
            json!({ "invoiceId": format!("inv-{number}"), "amount": amount, "daysLate": 1 + number % 30 })
        }
        "customer.updated" => json!({ "customerId": format!("cus-{}", number % 400), "changed": ["address"] }),
        _ => json!({ "subscriptionId": format!("sub-{}", number % 90), "reason": "No longer needed" }),
    }
}

/// The JSON Schema of those payloads.
fn schema(event_type: &str, description: &str) -> Value {
    let example = payload(event_type, 1_042);
    let kind = |value: &Value| match value {
        Value::Number(number) if number.is_u64() => json!({ "type": "integer" }),
        Value::Number(_) => json!({ "type": "number" }),
        Value::Array(_) => json!({ "type": "array", "items": { "type": "string" } }),
        _ => json!({ "type": "string" }),
    };
    let fields = example.as_object().cloned().unwrap_or_default();
    let properties: Map<String, Value> = fields.iter().map(|(name, value)| (name.clone(), kind(value))).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": event_type,
        "description": description,
        "type": "object",
        "properties": properties,
        "required": fields.keys().collect::<Vec<_>>(),
        "examples": [example],
    })
}

struct EndpointPlan {
    name: &'static str,
    path: &'static str,
    behaviour: Behaviour,
    /// Empty: all event types.
    event_types: &'static [&'static str],
    signature_type: SignatureType,
}

const fn plan(
    name: &'static str,
    path: &'static str,
    behaviour: Behaviour,
    types: &'static [&'static str],
) -> EndpointPlan {
    EndpointPlan { name, path, behaviour, event_types: types, signature_type: SignatureType::Hmac256 }
}

const CUSTOMERS: [(&str, &str, [EndpointPlan; 2]); 3] = [
    (
        "harbor-coffee",
        "Harbor Coffee",
        [
            plan("Order desk", "/harbor-coffee/orders", Behaviour::Healthy, &[]),
            plan("Accounting", "/harbor-coffee/accounting", Behaviour::Slow, &["invoice.paid", "invoice.overdue"]),
        ],
    ),
    (
        "pine-and-paper",
        "Pine & Paper",
        [
            plan("Shop", "/pine-and-paper/shop", Behaviour::Flaky, &[]),
            plan("Old CRM", "/pine-and-paper/crm", Behaviour::Gone, &["customer.updated", "subscription.canceled"]),
        ],
    ),
    (
        "orbit-cycles",
        "Orbit Cycles",
        [
            EndpointPlan {
                signature_type: SignatureType::Ed25519,
                ..plan("Fulfilment", "/orbit-cycles/fulfilment", Behaviour::Healthy, &[])
            },
            plan("Warehouse", "/orbit-cycles/warehouse", Behaviour::HangsUp, &["order.shipped", "order.created"]),
        ],
    ),
];

/// A customer in the store.
pub(super) struct Customer {
    pub(super) app: Application,
    pub(super) uid: &'static str,
    pub(super) endpoints: Vec<DemoEndpoint>,
}

/// An endpoint with its signing secret.
pub(super) struct DemoEndpoint {
    pub(super) endpoint: Endpoint,
    pub(super) secret: Secret,
    pub(super) behaviour: Behaviour,
}

/// The tenant that owns the demo's data.
pub(super) fn tenant() -> Tenant {
    Tenant::org(OrgId::default_org())
}

/// Creates event types, customers and endpoints at time `at`, and a receiver route for each endpoint.
pub(super) async fn create(store: &Store, receiver: &DemoReceiver, at: Time) -> Result<Vec<Customer>, CliError> {
    for (name, description) in EVENT_TYPES {
        let schemas = Map::from_iter([("1".to_owned(), schema(name, description))]);
        let spec = EventTypeSpec {
            name: name.to_owned(),
            description: description.to_owned(),
            schemas: Some(schemas),
            ..EventTypeSpec::default()
        };
        store.create_event_type(&tenant(), spec, at).await?;
    }
    let mut customers = Vec::new();
    for (uid, name, plans) in &CUSTOMERS {
        let spec = ApplicationSpec {
            uid: Some(Uid::parse("uid", uid, AppId::PREFIX).map_err(|wrong| CliError::Failed(wrong.to_string()))?),
            name: (*name).to_owned(),
            contact_email: Some(format!("it@{uid}.example")),
            ..ApplicationSpec::default()
        };
        let app = store.create_application(&tenant(), spec, at).await?;
        let mut endpoints = Vec::new();
        for plan in plans {
            endpoints.push(create_endpoint(store, receiver, &app, plan, at).await?);
        }
        customers.push(Customer { app, uid, endpoints });
    }
    Ok(customers)
}

async fn create_endpoint(
    store: &Store,
    receiver: &DemoReceiver,
    app: &Application,
    plan: &EndpointPlan,
    at: Time,
) -> Result<DemoEndpoint, CliError> {
    let secret = Secret::generate(plan.signature_type);
    let verifier = Verifier::parse("secret", &secret.shown()).map_err(|wrong| CliError::Failed(wrong.to_string()))?;
    receiver.add_route(plan.path, DemoRoute::new(plan.behaviour, verifier));
    let url = Url::parse(&format!("http://{}{}", receiver.address, plan.path))
        .map_err(|error| CliError::Failed(error.to_string()))?;
    let types = plan.event_types;
    let spec = EndpointSpec {
        url: url.into(),
        description: format!("{} ({})", plan.name, plan.behaviour.description()),
        event_types: (!types.is_empty()).then(|| types.iter().map(|name| (*name).to_owned()).collect()),
        signature_type: plan.signature_type,
        ..EndpointSpec::default()
    };
    let endpoint = store.create_endpoint(&tenant(), app.id, spec, &secret, at).await?;
    Ok(DemoEndpoint { endpoint, secret, behaviour: plan.behaviour })
}
