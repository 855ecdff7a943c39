//! An **event type** is a name such as `invoice.paid`, with a description and a JSON Schema per version. Endpoint
//! filters may only name event types in the catalog; messages may carry any name.

use jsonschema::Draft;
use serde_json::{Map, Value, json};

use crate::domain::catalog::application::check_description;
use crate::domain::catalog::example;
use crate::domain::catalog::payload_schema::{PayloadSchema, PayloadValidation};
use crate::domain::{Invalid, OrgId, Time, ids, limits};

/// A stored event type.
#[derive(Clone, Debug, PartialEq)]
pub struct EventType {
    pub org: OrgId,
    pub spec: EventTypeSpec,
    pub created_at: Time,
    pub updated_at: Time,
}

/// The fields of an event type that a caller sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventTypeSpec {
    pub name: String,
    pub description: String,
    /// Hidden from customers; its messages are still delivered.
    pub archived: bool,
    pub deprecated: bool,
    /// A portal shows the event type only if its session has all these flags.
    pub feature_flags: Vec<String>,
    pub group_name: Option<String>,
    /// Version → JSON Schema.
    pub schemas: Option<Map<String, Value>>,
    /// The treatment of messages whose payload does not match the newest schema.
    pub validation: PayloadValidation,
}

/// Test event types that exist in every catalog: our name and Svix's.
const PINGS: [&str; 2] = ["sendoff.ping", "svix.ping"];

impl EventTypeSpec {
    /// The built-in event type of this name.
    pub fn ping(name: &str) -> Option<EventTypeSpec> {
        let schema = json!({"type": "object", "examples": [{"success": true}]});
        PINGS.contains(&name).then(|| EventTypeSpec {
            name: name.to_owned(),
            description: "A test event, to check that webhooks arrive.".to_owned(),
            schemas: Some(Map::from_iter([("1".to_owned(), schema)])),
            ..EventTypeSpec::default()
        })
    }

    /// Whether a customer with these feature flags can see it.
    pub fn offered(&self, flags: &[String]) -> bool {
        !self.archived && self.feature_flags.iter().all(|flag| flags.contains(flag))
    }

    /// The schema of the highest version. Versions that are not numbers come first.
    pub fn newest_schema(&self) -> Option<&Value> {
        self.schemas.as_ref()?.get(self.newest_version()?)
    }

    /// The highest version. Versions that are not numbers come first.
    pub fn newest_version(&self) -> Option<&str> {
        let versions = self.schemas.as_ref()?.keys();
        versions.max_by_key(|version| (version.parse::<u64>().ok(), *version)).map(String::as_str)
    }

    /// An example payload: the [example](example::example) of the newest schema, at `index` of its `examples`.
    ///
    /// # Errors
    /// There is no schema, no example at `index`, or the example is not a JSON object.
    pub fn example(&self, index: Option<usize>) -> Result<Value, Invalid> {
        let refused = |reason: &str| Invalid::new("eventType", reason);
        let schema = self.newest_schema().ok_or_else(|| refused("has no schema to take an example from"))?;
        let value = example::example(schema, index)?;
        if value.is_object() {
            return Ok(value);
        }
        Err(refused("has an example in its schema that is not a JSON object"))
    }

    /// Checks the rules that the types do not enforce.
    ///
    /// # Errors
    /// Every broken rule, not only the first.
    pub fn check(&self) -> Result<(), Vec<Invalid>> {
        let mut wrong = Vec::new();
        wrong.extend(ids::name("name", &self.name, limits::NAME).err());
        check_description(&self.description, &mut wrong);
        wrong.extend(ids::names("featureFlags", &self.feature_flags, limits::FEATURE_FLAGS, limits::NAME));
        if let Some(group) = &self.group_name {
            wrong.extend(ids::name("groupName", group, limits::NAME).err());
        }
        if let Some(schemas) = &self.schemas {
            // The limit applies to the stored form.
            let text = serde_json::to_string(schemas).unwrap_or_default();
            if text.len() > limits::SCHEMAS_BYTES {
                let reason = format!("may have at most {} bytes as JSON, got {}", limits::SCHEMAS_BYTES, text.len());
                wrong.push(Invalid::new("schemas", reason));
            } else {
                wrong.extend(schemas.iter().filter_map(|(version, schema)| check_schema(version, schema).err()));
            }
        }
        if self.validation != PayloadValidation::Off && wrong.is_empty() {
            match self.newest_schema().map(PayloadSchema::compile) {
                Some(compiled) => wrong.extend(compiled.err()),
                None => wrong.push(Invalid::new("validation", "needs a schema to validate payloads with")),
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// Validates a schema against the metaschema it names, by default draft 2020-12.
fn check_schema(version: &str, schema: &Value) -> Result<(), Invalid> {
    let told = |wrong: jsonschema::ValidationError<'_>| {
        let place = wrong.instance_path().to_string();
        let at = if place.is_empty() { String::new() } else { format!(", at {place}") };
        Invalid::new("schemas", format!("version {version} is not a valid JSON Schema{at}: {wrong}"))
    };
    match Draft::default().detect(schema) {
        // A custom metaschema, which is not available here.
        Draft::Unknown => Ok(()),
        _ => jsonschema::meta::validate(schema).map_err(told),
    }
}
