//! A JSON Schema as a table: one row per field, nested fields by their path.

use serde_json::Value;

use crate::dashboard::components::format::Line;

/// Maximum number of rows, and maximum nesting.
const MOST: usize = 200;
const DEPTH: usize = 8;

/// A field of a payload.
pub struct SchemaField {
    /// Such as `customer.address.city` or `lines[].amount`.
    pub path: Line,
    pub kind: Line,
    pub required: bool,
    pub description: Line,
}

/// The fields of a schema, in its order. References outside the schema and combinations such as `oneOf` are not
/// expanded.
pub fn fields(schema: &Value) -> Vec<SchemaField> {
    let mut rows = Vec::new();
    collect(schema, schema, "", 0, &mut rows);
    rows
}

fn collect(root: &Value, schema: &Value, prefix: &str, depth: usize, rows: &mut Vec<SchemaField>) {
    let schema = resolved(root, schema);
    let required = |name: &str| {
        schema["required"].as_array().is_some_and(|list| list.iter().any(|one| one.as_str() == Some(name)))
    };
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if rows.len() >= MOST || depth >= DEPTH {
            return;
        }
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let property = resolved(root, property);
        rows.push(SchemaField {
            path: Line::cut(&path, 200),
            kind: Line::cut(&kind(root, property), 60),
            required: required(name),
            description: Line::cut(property["description"].as_str().unwrap_or_default(), 300),
        });
        let items = resolved(root, &property["items"]);
        match items.is_object() {
            true => collect(root, items, &format!("{path}[]"), depth + 1, rows),
            false => collect(root, property, &path, depth + 1, rows),
        }
    }
}

fn kind(root: &Value, schema: &Value) -> String {
    let own = match &schema["type"] {
        Value::String(one) => one.clone(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        _ if schema["enum"].is_array() => "enum".to_owned(),
        _ if schema["properties"].is_object() => "object".to_owned(),
        _ => "any".to_owned(),
    };
    match (own.as_str(), schema["format"].as_str(), &schema["items"]) {
        ("array", _, items @ Value::Object(_)) => format!("array of {}", kind_of_items(root, items)),
        (_, Some(format), _) => format!("{own} ({format})"),
        _ => own,
    }
}

fn kind_of_items(root: &Value, items: &Value) -> String {
    let items = resolved(root, items);
    items["type"].as_str().unwrap_or("any").to_owned()
}

/// Follows one local reference after another.
fn resolved<'a>(root: &'a Value, mut schema: &'a Value) -> &'a Value {
    for _ in 0..DEPTH {
        let target = schema["$ref"].as_str().and_then(|reference| root.pointer(reference.strip_prefix('#')?));
        match target {
            Some(target) => schema = target,
            None => return schema,
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nested_fields_have_paths_and_recursion_ends() {
        let schema = json!({"$ref": "#/$defs/Invoice", "$defs": {
            "Invoice": {"required": ["id"], "properties": {
                "id": {"type": "string", "format": "uuid", "description": "Its id."},
                "lines": {"type": "array", "items": {"$ref": "#/$defs/Line"}}}},
            "Line": {"type": "object", "properties": {"amount": {"type": ["number", "null"]}, "parent": {"$ref": "#/$defs/Line"}}}}});
        let rows = fields(&schema);
        let told: Vec<String> = rows.iter().map(|row| format!("{} {} {}", row.path, row.kind, row.required)).collect();
        assert_eq!(
            told[..3],
            ["id string (uuid) true", "lines array of object false", "lines[].amount number or null false"]
        );
        assert!(rows.len() <= MOST && told.iter().any(|row| row.starts_with("lines[].parent.amount")), "{told:?}");
    }
}
