//! An **event type** is a name such as `invoice.paid`, with a description and a JSON Schema per version: the catalog from which
//! an application chooses what it wants. A message may carry a name that is not in it; an endpoint's filter may not.

use jsonschema::Draft;
use serde_json::{Map, Value, json};

use super::application::check_description;
use super::{Invalid, OrgId, Time, example, ids, limits};

/// An event type as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct EventType {
    pub org: OrgId,
    pub spec: EventTypeSpec,
    pub created_at: Time,
    pub updated_at: Time,
}

/// What somebody wants an event type to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventTypeSpec {
    pub name: String,
    pub description: String,
    /// No longer offered; what is sent under it is still delivered.
    pub archived: bool,
    pub deprecated: bool,
    /// Shown to customers only in a portal that has all of these flags.
    pub feature_flags: Vec<String>,
    pub group_name: Option<String>,
    /// Version → JSON Schema.
    pub schemas: Option<Map<String, Value>>,
}

/// Event types that every catalog has for examples, under our name and the dialect's.
const PINGS: [&str; 2] = ["sendoff.ping", "svix.ping"];

impl EventTypeSpec {
    /// The event type of this name, if it is one that need not be in the catalog.
    pub fn ping(name: &str) -> Option<EventTypeSpec> {
        let schema = json!({"type": "object", "examples": [{"success": true}]});
        PINGS.contains(&name).then(|| EventTypeSpec {
            name: name.to_owned(),
            description: "Says that webhooks arrive.".to_owned(),
            schemas: Some(Map::from_iter([("1".to_owned(), schema)])),
            ..EventTypeSpec::default()
        })
    }

    /// Whether a customer may know of it who has these feature flags.
    pub fn offered(&self, flags: &[String]) -> bool {
        !self.archived && self.feature_flags.iter().all(|flag| flags.contains(flag))
    }

    /// The schema of the highest version: versions are numbers, if all goes well.
    pub fn newest_schema(&self) -> Option<&Value> {
        let schemas = self.schemas.as_ref()?;
        schemas.iter().max_by_key(|(version, _)| (version.parse::<u64>().ok(), *version)).map(|(_, schema)| schema)
    }

    /// A payload of it: the [example](example::example) of its newest schema, the one at `index` of its `examples`.
    ///
    /// # Errors
    /// It has no schema, its example is no JSON object, or there is none at `index`.
    pub fn example(&self, index: Option<usize>) -> Result<Value, Invalid> {
        let refused = |reason: &str| Invalid::new("eventType", reason);
        let schema = self.newest_schema().ok_or_else(|| refused("has no schema to take an example from"))?;
        let value = example::example(schema, index)?;
        if value.is_object() {
            return Ok(value);
        }
        Err(refused("has an example in its schema that is no JSON object, which a payload must be"))
    }

    /// Checks what the types do not say.
    ///
    /// # Errors
    /// Every rule that is broken, not only the first.
    pub fn check(&self) -> Result<(), Vec<Invalid>> {
        let mut wrong = Vec::new();
        wrong.extend(ids::name("name", &self.name, limits::NAME).err());
        check_description(&self.description, &mut wrong);
        wrong.extend(ids::names("featureFlags", &self.feature_flags, limits::FEATURE_FLAGS, limits::NAME));
        if let Some(group) = &self.group_name {
            wrong.extend(ids::name("groupName", group, limits::NAME).err());
        }
        if let Some(schemas) = &self.schemas {
            // As the store writes them. Only a string can hold the character that PostgreSQL does not.
            let text = serde_json::to_string(schemas).unwrap_or_default();
            if text.len() > limits::SCHEMAS_BYTES {
                let reason = format!("may have at most {} bytes as JSON, got {}", limits::SCHEMAS_BYTES, text.len());
                wrong.push(Invalid::new("schemas", reason));
            } else {
                wrong.extend(schemas.iter().filter_map(|(version, schema)| check_schema(version, schema).err()));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// Checks that a schema is one, by the metaschema that it names, or by that of draft 2020-12.
fn check_schema(version: &str, schema: &Value) -> Result<(), Invalid> {
    let told = |wrong: jsonschema::ValidationError<'_>| {
        let place = wrong.instance_path().to_string();
        let at = if place.is_empty() { String::new() } else { format!(", at {place}") };
        Invalid::new("schemas", format!("version {version} is no JSON Schema{at}: {wrong}"))
    };
    match Draft::default().detect(schema) {
        // It names a metaschema of somebody else's, which is nowhere to be had.
        Draft::Unknown => Ok(()),
        _ => jsonschema::meta::validate(schema).map_err(told),
    }
}
