//! Example payloads from JSON Schemas: the example the schema declares, or else a minimal generated value.
//!
//! Schemas are untrusted: the size of a generated value is bounded, and cyclic references end. Nothing here validates
//! payloads.

use serde_json::{Map, Value, json};

use crate::domain::Invalid;

/// Maximum depth, and maximum number of values.
const LIMIT: (usize, usize) = (8, 2_000);
/// Maximum length of a string padded to `minLength`.
const LONGEST: u64 = 256;

/// The example of `schema`: entry `index` (default 0) of its `examples`, else its `example`, its `default`, or a
/// generated value.
///
/// # Errors
/// The schema lists examples, but none at `index`.
pub fn example(schema: &Value, index: Option<usize>) -> Result<Value, Invalid> {
    let listed = schema.get("examples").and_then(Value::as_array).filter(|list| !list.is_empty());
    if let Some(list) = listed {
        return list.get(index.unwrap_or(0)).cloned().ok_or_else(|| {
            let reason = format!("must be 0 to {}: the schema has {} examples", list.len() - 1, list.len());
            Invalid::new("exampleIndex", reason)
        });
    }
    let mut maker = Generator { root: schema, left: LIMIT.1 };
    Ok(maker.make(schema, 0).unwrap_or_else(|| json!({})))
}

/// Generates values; `left` is the number of values it may still generate.
struct Generator<'a> {
    root: &'a Value,
    left: usize,
}

impl<'a> Generator<'a> {
    /// A value that matches `schema`; `None`: too deep or too many values.
    fn make(&mut self, schema: &'a Value, depth: usize) -> Option<Value> {
        if depth >= LIMIT.0 {
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        let Value::Object(schema) = schema else { return Some(json!({})) };
        if let Some(found) = written(schema) {
            return Some(found.clone());
        }
        if let Some(Value::String(reference)) = schema.get("$ref") {
            // A dangling reference, or one into another document, yields no value.
            let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return self.make(target?, depth + 1);
        }
        for choice in ["oneOf", "anyOf"] {
            if let Some(first) = schema.get(choice).and_then(|list| list.get(0)) {
                return self.make(first, depth + 1);
            }
        }
        match kind(schema) {
            "object" => Some(self.object(schema, depth)),
            "array" => Some(self.array(schema, depth)),
            "string" => Some(text(schema)),
            "integer" => Some(number(schema, true)),
            "number" => Some(number(schema, false)),
            "boolean" => Some(json!(true)),
            _ => Some(Value::Null),
        }
    }

    /// All properties, including those of `allOf`.
    fn object(&mut self, schema: &'a Map<String, Value>, depth: usize) -> Value {
        let mut made = Map::new();
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            if let Some(Value::Object(part)) = self.make(part, depth + 1) {
                made.extend(part);
            }
        }
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if let Some(value) = self.make(property, depth + 1) {
                made.insert(name.clone(), value);
            }
        }
        Value::Object(made)
    }

    fn array(&mut self, schema: &'a Map<String, Value>, depth: usize) -> Value {
        let first = schema.get("prefixItems").and_then(|list| list.get(0)).or_else(|| schema.get("items"));
        Value::Array(first.and_then(|item| self.make(item, depth + 1)).into_iter().collect())
    }
}

/// The value the schema declares: an example, a default, a constant or the first enum value.
fn written(schema: &Map<String, Value>) -> Option<&Value> {
    let first = |name| schema.get(name).and_then(|list: &Value| list.get(0));
    first("examples")
        .or_else(|| schema.get("example"))
        .or_else(|| schema.get("default"))
        .or_else(|| schema.get("const"))
        .or_else(|| first("enum"))
}

/// The JSON type to generate: the first that is not null; without `type`, inferred from the other keywords.
fn kind(schema: &Map<String, Value>) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("null")
        }
        _ if schema.contains_key("items") || schema.contains_key("prefixItems") => "array",
        _ => "object",
    }
}

fn text(schema: &Map<String, Value>) -> Value {
    let text = match schema.get("format").and_then(Value::as_str) {
        Some("date-time") => "2026-01-01T12:00:00Z",
        Some("date") => "2026-01-01",
        Some("time") => "12:00:00Z",
        Some("email") => "somebody@example.com",
        Some("hostname") => "example.com",
        Some("uri" | "url") => "https://example.com/",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        _ => "string",
    };
    let least = schema.get("minLength").and_then(Value::as_u64).unwrap_or(0).min(LONGEST);
    let most = schema.get("maxLength").and_then(Value::as_u64).unwrap_or(u64::MAX);
    let missing = least.saturating_sub(text.len() as u64) as usize;
    let text: String = text.chars().chain(std::iter::repeat_n('x', missing)).collect();
    Value::String(text.chars().take(usize::try_from(most).unwrap_or(usize::MAX)).collect())
}

fn number(schema: &Map<String, Value>, whole: bool) -> Value {
    let bound = |name| schema.get(name).and_then(Value::as_f64);
    let least = bound("minimum").or(bound("exclusiveMinimum").map(|least| least + 1.0));
    let most = bound("maximum").or(bound("exclusiveMaximum").map(|most| most - 1.0));
    let value = least.unwrap_or(0.0).max(0.0_f64.min(least.unwrap_or(0.0))).min(most.unwrap_or(f64::MAX));
    if whole { json!(value.ceil() as i64) } else { json!(value) }
}

#[cfg(test)]
mod tests {
    use crate::domain::catalog::example::*;

    #[test]
    fn declared_examples_take_precedence() {
        let schema = json!({"examples": [{"n": 1}, {"n": 2}], "example": {"n": 3}, "default": {"n": 4}});
        assert_eq!(example(&schema, None), Ok(json!({"n": 1})));
        assert_eq!(example(&schema, Some(1)), Ok(json!({"n": 2})));
        assert_eq!(example(&schema, Some(2)).unwrap_err().field, "exampleIndex");
        assert_eq!(example(&json!({"example": {"n": 3}, "default": {"n": 4}}), Some(7)), Ok(json!({"n": 3})));
        assert_eq!(example(&json!({"examples": [], "default": {"n": 4}}), None), Ok(json!({"n": 4})));
    }

    #[test]
    fn else_it_is_made_up() {
        let schema = json!({
            "type": "object",
            "allOf": [{"properties": {"base": {"type": "string"}}}],
            "properties": {
                "id": {"type": "string", "format": "uuid"},
                "at": {"type": ["null", "string"], "format": "date-time"},
                "code": {"type": "string", "minLength": 8},
                "short": {"type": "string", "maxLength": 3},
                "count": {"type": "integer", "minimum": 3},
                "below": {"type": "number", "maximum": -1.5},
                "paid": {"type": "boolean"},
                "state": {"enum": ["open", "closed"]},
                "customer": {"$ref": "#/$defs/customer"},
                "lines": {"type": "array", "items": {"type": "integer"}},
                "one": {"oneOf": [{"const": "this"}, {"const": "that"}]},
                "nothing": {"type": "null"},
                "free": true,
                "elsewhere": {"$ref": "https://example.com/schema"}
            },
            "$defs": {"customer": {"type": "object", "properties": {"name": {"type": "string", "example": "Acme"}}}}
        });
        let wanted = json!({
            "base": "string", "id": "00000000-0000-4000-8000-000000000000", "at": "2026-01-01T12:00:00Z",
            "code": "stringxx", "short": "str", "count": 3, "below": -1.5, "paid": true, "state": "open",
            "customer": {"name": "Acme"}, "lines": [0], "one": "this", "nothing": null, "free": {}
        });
        assert_eq!(example(&schema, None), Ok(wanted));
        assert_eq!(example(&json!(true), None), Ok(json!({})));
    }

    #[test]
    fn examples_stay_small_for_every_schema() {
        let circle = json!({"type": "object", "properties": {"next": {"$ref": "#"}, "n": {"type": "integer"}}});
        let text = example(&circle, None).unwrap().to_string();
        assert!(text.contains("\"n\":0") && text.len() < 1_000, "{text}");
        let pure = json!({"$ref": "#"});
        assert_eq!(example(&pure, None), Ok(json!({})));
        let wide: Map<String, Value> = (0..20).map(|n| (n.to_string(), json!({"$ref": "#"}))).collect();
        let wide = json!({"properties": wide, "minLength": u64::MAX});
        assert!(example(&wide, None).unwrap().to_string().len() < 100_000);
        let long = json!({"properties": {"s": {"type": "string", "minLength": u64::MAX}}});
        assert!(example(&long, None).unwrap().to_string().len() < 1_000);
    }
}
