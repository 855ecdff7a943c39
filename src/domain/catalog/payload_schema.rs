//! Validation of payloads against an event type's newest schema, when a message is accepted.
//!
//! Schemas are untrusted, so the time of a validation is bounded before it begins:
//!
//! * A schema may only refer to itself (`$ref: "#/…"`) and must not be recursive. With its references expanded it has
//!   at most [`EXPANDED`] subschemas; the validator evaluates each at most once per value of the payload.
//! * Patterns run on an engine with linear time.
//! * The product of a schema's size and the number of values in a payload is at most [`STEPS`].

use serde_json::Value;

use crate::domain::Invalid;

/// Maximum number of subschemas, expanded along references.
const EXPANDED: usize = 5_000;
/// Maximum number of evaluations of one validation, about 0.2 s.
const STEPS: usize = 2_000_000;
/// Maximum number of reported paths.
const REPORTED: usize = 10;
/// Maximum nesting of a schema, references included.
const DEPTH: usize = 64;
/// Maximum compiled size of a pattern, in bytes.
const PATTERN_BYTES: usize = 256 * 1024;

/// The treatment of a message whose payload does not match. The words are stored and public.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PayloadValidation {
    #[default]
    Off,
    /// The message is accepted, counted and marked.
    Warn,
    /// The message is rejected; an outbox row becomes stuck.
    Reject,
}

impl PayloadValidation {
    pub const ALL: [PayloadValidation; 3] =
        [PayloadValidation::Off, PayloadValidation::Warn, PayloadValidation::Reject];

    /// The stored word.
    pub const fn word(self) -> &'static str {
        match self {
            PayloadValidation::Off => "off",
            PayloadValidation::Warn => "warn",
            PayloadValidation::Reject => "reject",
        }
    }

    /// Parses the stored word.
    pub fn from_word(word: &str) -> Option<PayloadValidation> {
        PayloadValidation::ALL.into_iter().find(|one| one.word() == word)
    }
}

/// A compiled schema.
pub struct PayloadSchema {
    validator: jsonschema::Validator,
    /// Subschemas, expanded.
    size: usize,
}

impl std::fmt::Debug for PayloadSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PayloadSchema").field("size", &self.size).finish_non_exhaustive()
    }
}

impl PayloadSchema {
    /// Compiles a schema.
    ///
    /// # Errors
    /// It is not a valid schema, or its validation could take too long; the error names `schemas`.
    pub fn compile(schema: &Value) -> Result<PayloadSchema, Invalid> {
        let wrong = |reason: String| Invalid::new("schemas", reason);
        let size = expanded(schema, schema, 0).map_err(wrong)?;
        let patterns = jsonschema::PatternOptions::regex().size_limit(PATTERN_BYTES);
        let validator = jsonschema::options()
            .with_pattern_options(patterns)
            .should_validate_formats(false)
            .build(schema)
            .map_err(|error| Invalid::new("schemas", format!("cannot validate payloads: {error}")))?;
        Ok(PayloadSchema { validator, size })
    }

    /// The number of evaluations that a validation of `payload` may take.
    pub fn cost(&self, payload: &Value) -> usize {
        self.size.saturating_mul(values(payload))
    }

    /// Checks a payload, as JSON.
    ///
    /// # Errors
    /// The paths that do not match, with reasons. At most ten.
    pub fn check(&self, payload: &[u8]) -> Result<(), Vec<Invalid>> {
        let Ok(value) = serde_json::from_slice::<Value>(payload) else {
            return Err(vec![Invalid::new("payload", "is not JSON, which the schema of its event type asks for")]);
        };
        if self.cost(&value) > STEPS {
            let reason = "has too many values to be checked against the schema of its event type";
            return Err(vec![Invalid::new("payload", reason)]);
        }
        let told = |error: jsonschema::ValidationError<'_>| {
            let path = error.instance_path().to_string();
            // The value may be long, and private.
            Invalid::new(format!("payload{}", path.replace('/', ".")), error.masked().to_string())
        };
        let wrong: Vec<Invalid> = self.validator.iter_errors(&value).take(REPORTED).map(told).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// The number of values in a payload.
fn values(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(values).sum(),
        Value::Object(object) => object.values().map(values).sum(),
        _ => 0,
    }
}

/// An upper bound of the subschemas of `part`, with references within `root` expanded: counts every object.
fn expanded(root: &Value, part: &Value, depth: usize) -> Result<usize, String> {
    if depth > DEPTH {
        return Err(format!(
            "cannot validate payloads: it is recursive, or nested deeper than {DEPTH} levels along its references"
        ));
    }
    let list: Vec<&Value> = match part {
        Value::Array(list) => list.iter().collect(),
        Value::Object(object) => {
            const UNSUPPORTED: [&str; 5] = ["$dynamicRef", "$recursiveRef", "$id", "$anchor", "$dynamicAnchor"];
            if let Some(name) = UNSUPPORTED.iter().find(|name| depth > 0 && object.contains_key(**name)) {
                return Err(format!("cannot validate payloads: {name} is not supported below the top level"));
            }
            let target = match object.get("$ref") {
                Some(Value::String(reference)) => {
                    let target = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
                    Some(target.ok_or_else(|| format!("cannot validate payloads: {reference} is not in the schema"))?)
                }
                _ => None,
            };
            // Definitions count at each reference; examples are not schemas.
            const APART: [&str; 6] = ["$defs", "definitions", "examples", "enum", "const", "default"];
            let own = object.iter().filter(|(name, _)| !APART.contains(&name.as_str())).map(|(_, value)| value);
            own.chain(target).collect()
        }
        _ => return Ok(0),
    };
    let mut sum = 1;
    for one in list {
        sum += expanded(root, one, depth + 1)?;
        if sum > EXPANDED {
            return Err(format!("cannot validate payloads: it has more than {EXPANDED} subschemas"));
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use crate::domain::catalog::payload_schema::*;

    fn invoice() -> Value {
        json!({"type": "object", "required": ["id"], "properties": {
            "id": {"type": "string", "pattern": "^in_"}, "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}}},
            "$defs": {"line": {"type": "object", "properties": {"amount": {"type": "number", "minimum": 0}}}}})
    }

    #[test]
    fn the_paths_that_do_not_match_are_named_without_their_values() {
        let schema = PayloadSchema::compile(&invoice()).unwrap();
        assert!(schema.check(br#"{"id": "in_1", "lines": [{"amount": 1}]}"#).is_ok());
        let wrong = schema.check(br#"{"id": "geheim", "lines": [{"amount": 1}, {"amount": -7}]}"#).unwrap_err();
        let mut fields: Vec<&str> = wrong.iter().map(|one| one.field.as_str()).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["payload.id", "payload.lines.1.amount"]);
        assert!(!format!("{wrong:?}").contains("geheim"), "{wrong:?}");
        assert_eq!(schema.check(b"{}").unwrap_err()[0].field, "payload");
        assert_eq!(schema.check(b"no").unwrap_err().len(), 1);
        let many: Vec<Value> = (0..50).map(|_| json!({"amount": "x"})).collect();
        let many = json!({"id": "in_1", "lines": many}).to_string();
        assert_eq!(schema.check(many.as_bytes()).unwrap_err().len(), REPORTED);
    }

    #[test]
    fn schemas_whose_validation_could_take_too_long_are_refused() {
        let told = |schema: Value| PayloadSchema::compile(&schema).unwrap_err().reason;
        assert!(told(json!({"$ref": "#"})).contains("recursive"));
        assert!(told(json!({"properties": {"next": {"$ref": "#"}}})).contains("recursive"));
        assert!(told(json!({"properties": {"a": {"$ref": "https://example.com/x"}}})).contains("not in the schema"));
        assert!(told(json!({"properties": {"a": {"$dynamicRef": "#x"}}})).contains("$dynamicRef"));
        // Each level refers twice to the next: 2^30 subschemas in a short text.
        let level = |n: usize| {
            (
                format!("l{n}"),
                json!({"allOf": [{"$ref": format!("#/$defs/l{}", n + 1)}, {"$ref": format!("#/$defs/l{}", n + 1)}]}),
            )
        };
        let mut defs: serde_json::Map<String, Value> = (0..20).map(level).collect();
        defs.insert("l20".into(), json!({"type": "object"}));
        let started = Instant::now();
        assert!(told(json!({"$ref": "#/$defs/l0", "$defs": defs})).contains("more than 5000"));
        assert!(started.elapsed() < Duration::from_secs(1));
        let schema = PayloadSchema::compile(&invoice()).unwrap();
        let huge = format!("{{\"id\": \"in_1\", \"x\": [{}0]}}", "0,".repeat(STEPS / 4));
        assert!(schema.check(huge.as_bytes()).unwrap_err()[0].reason.contains("too many values"));
    }

    #[test]
    fn a_pattern_takes_linear_time() {
        let schema = PayloadSchema::compile(&json!({"properties": {"a": {"pattern": "^(a+)+$"}}})).unwrap();
        let started = Instant::now();
        let payload = json!({"a": format!("{}b", "a".repeat(100_000))}).to_string();
        assert!(schema.check(payload.as_bytes()).is_err());
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
