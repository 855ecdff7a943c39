//! Event types from an OpenAPI 3.1 document: each entry of its `webhooks` becomes one. Schemas that an entry refers to
//! are copied into its own `$defs`, so each schema is self-contained.
//!
//! The document is untrusted: the number of entries, the depth of references, the size of each result and the expansion
//! of YAML aliases are bounded.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::domain::catalog::event_type::EventTypeSpec;
use crate::domain::{Invalid, ids, limits};

/// Maximum number of webhooks.
pub const WEBHOOKS: usize = 1_000;
/// Maximum size of a document, in bytes.
pub const DOCUMENT_BYTES: usize = 2 * 1024 * 1024;
/// Maximum number of references followed to reach an object.
const REFERENCES: usize = 16;
/// Maximum number of schemas copied for one event type.
const DEFINITIONS: usize = 500;
const SCHEMAS: &str = "#/components/schemas/";

/// Maximum size of the values of a YAML document with its aliases expanded, in bytes.
const YAML_BYTES: usize = 2 * DOCUMENT_BYTES;
/// Maximum number of values of a YAML document with its aliases expanded.
const YAML_VALUES: usize = 200_000;
/// Maximum nesting of a YAML document, whose parser uses much of the stack; that of JSON is the parser's.
const YAML_DEPTH: usize = 40;

/// Parses a document as text: JSON, or YAML 1.2.
///
/// # Errors
/// It is too long, neither JSON nor YAML, or not a document that [`event_types`] accepts.
pub fn parse(text: &str) -> Result<Vec<EventTypeSpec>, Vec<Invalid>> {
    let wrong = |reason: String| vec![Invalid::new("spec", reason)];
    if text.len() > DOCUMENT_BYTES {
        return Err(wrong(format!("may have at most {DOCUMENT_BYTES} bytes, got {}", text.len())));
    }
    let document = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| wrong(format!("must be an OpenAPI document as JSON: {error}")))?
    } else {
        yaml(text).map_err(|error| wrong(format!("must be an OpenAPI document as JSON or YAML: {error}")))?
    };
    event_types(&document)
}

fn yaml(text: &str) -> Result<Value, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_nodes: YAML_VALUES,
            max_depth: YAML_DEPTH,
            max_total_scalar_bytes: YAML_BYTES,
        },
        // As in YAML 1.2: `no` and `on` are text.
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options)
}

/// The event types of a document, in its order. Each has one schema, under version `1`.
///
/// # Errors
/// Not an OpenAPI 3.1 document with webhooks, or entries that are not valid event types (all are listed).
pub fn event_types(document: &Value) -> Result<Vec<EventTypeSpec>, Vec<Invalid>> {
    let wrong = |reason: String| vec![Invalid::new("spec", reason)];
    if !document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")) {
        return Err(wrong("must be an OpenAPI 3.1 document: \"openapi\": \"3.1.…\"".to_owned()));
    }
    let Some(webhooks) = document["webhooks"].as_object().filter(|webhooks| !webhooks.is_empty()) else {
        return Err(wrong("has no webhooks: list the events under \"webhooks\"".to_owned()));
    };
    if webhooks.len() > WEBHOOKS {
        return Err(wrong(format!("may have at most {WEBHOOKS} webhooks, got {}", webhooks.len())));
    }
    let (mut specs, mut all_wrong) = (Vec::with_capacity(webhooks.len()), Vec::new());
    for (name, item) in webhooks {
        match event_type(document, name, item) {
            Ok(spec) => specs.push(spec),
            Err(reason) => all_wrong.push(Invalid::new("spec", format!("webhook {name:?} {reason}"))),
        }
    }
    if all_wrong.is_empty() { Ok(specs) } else { Err(all_wrong) }
}

fn event_type(document: &Value, name: &str, item: &Value) -> Result<EventTypeSpec, String> {
    ids::name("name", name, limits::NAME)
        .map_err(|wrong| format!("cannot be an event type: its name {}", wrong.reason))?;
    let item = resolve(document, item)?;
    let operation = item.get("post").ok_or("has no \"post\" operation")?;
    let text = |field: &str| operation[field].as_str().map(str::trim).filter(|text| !text.is_empty());
    let description = text("description").or(text("summary")).or(item["description"].as_str()).unwrap_or_default();
    let flags = match &operation["x-svix-feature-flags"] {
        Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => text("x-svix-feature-flag").map(str::to_owned).into_iter().collect(),
    };
    let group = text("x-svix-group-name")
        .or(operation["tags"][0].as_str())
        .filter(|tag| ids::name("groupName", tag, limits::NAME).is_ok());
    let spec = EventTypeSpec {
        name: name.to_owned(),
        description: description.to_owned(),
        deprecated: operation["deprecated"].as_bool().unwrap_or(false),
        feature_flags: flags,
        group_name: group.map(str::to_owned),
        schemas: schema(document, operation)?.map(|schema| Map::from_iter([("1".to_owned(), schema)])),
        ..EventTypeSpec::default()
    };
    let first = |wrong: Vec<Invalid>| wrong.first().map(|one| format!("is not valid: {one}")).unwrap_or_default();
    spec.check().map_err(first)?;
    Ok(spec)
}

/// The schema of the JSON request body, with its definitions and examples.
fn schema(document: &Value, operation: &Value) -> Result<Option<Value>, String> {
    let Some(body) = operation.get("requestBody") else { return Ok(None) };
    let body = resolve(document, body)?;
    let Some(content) = body["content"].as_object() else { return Ok(None) };
    let json = content.iter().find(|(kind, _)| kind.split(';').next().is_some_and(is_json));
    let Some((_, media)) = json else { return Ok(None) };
    let Some(schema) = media.get("schema") else { return Ok(None) };
    let mut used = BTreeSet::new();
    let mut schema = localized(schema, &mut used);
    let mut copied = Map::new();
    while let Some(name) = used.iter().find(|name| !copied.contains_key(*name)).cloned() {
        if copied.len() >= DEFINITIONS {
            return Err(format!("uses more than {DEFINITIONS} schemas"));
        }
        let found = document["components"]["schemas"].get(&name);
        let found = found.ok_or_else(|| format!("refers to {SCHEMAS}{name}, which does not exist"))?;
        let copy = localized(found, &mut used);
        copied.insert(name, copy);
    }
    // A boolean schema has neither.
    if let Some(object) = schema.as_object_mut() {
        if !copied.is_empty() {
            let defs = object.entry("$defs").or_insert_with(|| json!({}));
            defs.as_object_mut().ok_or("has $defs that are not an object")?.extend(copied);
        }
        let examples = examples(media);
        if !examples.is_empty() && !object.contains_key("examples") {
            object.insert("examples".to_owned(), Value::Array(examples));
        }
    }
    Ok(Some(schema))
}

fn is_json(kind: &str) -> bool {
    let kind = kind.trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// `example`, and the values of `examples`.
fn examples(media: &Value) -> Vec<Value> {
    let named = media["examples"].as_object().into_iter().flatten();
    media.get("example").into_iter().chain(named.filter_map(|(_, one)| one.get("value"))).take(20).cloned().collect()
}

/// A copy of a schema with references into its own `$defs`. Adds the names of the referenced schemas.
fn localized(schema: &Value, used: &mut BTreeSet<String>) -> Value {
    match schema {
        Value::Object(object) => {
            let field = |(name, value): (&String, &Value)| match (name.as_str(), value.as_str()) {
                ("$ref", Some(reference)) => (name.clone(), Value::String(local(reference, used))),
                _ => (name.clone(), localized(value, used)),
            };
            Value::Object(object.iter().map(field).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(|one| localized(one, used)).collect()),
        other => other.clone(),
    }
}

fn local(reference: &str, used: &mut BTreeSet<String>) -> String {
    let Some(rest) = reference.strip_prefix(SCHEMAS) else { return reference.to_owned() };
    let (name, below) = rest.split_once('/').map_or((rest, ""), |(name, below)| (name, below));
    used.insert(name.replace("~1", "/").replace("~0", "~"));
    let slash = if below.is_empty() { "" } else { "/" };
    format!("#/$defs/{name}{slash}{below}")
}

/// Follows `$ref` of a path item or request body within the document.
fn resolve<'a>(document: &'a Value, mut object: &'a Value) -> Result<&'a Value, String> {
    for _ in 0..REFERENCES {
        let Some(reference) = object.get("$ref").and_then(Value::as_str) else { return Ok(object) };
        let target = reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
        object = target.ok_or_else(|| format!("refers to {reference}, which is not in this document"))?;
    }
    Err(format!("has more than {REFERENCES} references in a row"))
}

#[cfg(test)]
mod tests {
    use crate::domain::catalog::openapi_import::*;

    fn document(webhooks: Value) -> Value {
        json!({"openapi": "3.1.0", "webhooks": webhooks, "components": {
            "pathItems": {"paid": {"post": {"requestBody": {"$ref": "#/components/requestBodies/paid"}}}},
            "requestBodies": {"paid": {"content": {"application/json": {
                "schema": {"$ref": "#/components/schemas/Invoice"}, "example": {"id": "in_1"}}}}},
            "schemas": {
                "Invoice": {"type": "object", "properties": {"lines": {"items": {"$ref": "#/components/schemas/Line"}}}},
                "Line": {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/Line"}}},
                "Unused": {"type": "string"},
            },
        }})
    }

    #[test]
    fn webhooks_become_event_types_that_stand_alone() {
        let inline = json!({"post": {"summary": "Gone.", "deprecated": true, "tags": ["invoice"],
            "x-svix-feature-flags": ["beta"], "requestBody": {"content": {"text/plain": {"schema": {}}}}}});
        let found = event_types(&document(json!({
            "invoice.paid": {"$ref": "#/components/pathItems/paid"}, "invoice.gone": inline,
        })));
        let [paid, gone] = &found.unwrap()[..] else { panic!("two event types") };
        assert_eq!((gone.name.as_str(), gone.description.as_str(), gone.deprecated), ("invoice.gone", "Gone.", true));
        assert_eq!((gone.group_name.as_deref(), &gone.feature_flags[..]), (Some("invoice"), &["beta".to_owned()][..]));
        assert!(gone.schemas.is_none(), "it has no JSON body");
        let schema = &paid.schemas.as_ref().unwrap()["1"];
        assert_eq!(schema["$ref"], "#/$defs/Invoice");
        assert_eq!(schema["$defs"]["Line"]["properties"]["next"]["$ref"], "#/$defs/Line");
        assert!(schema["$defs"].get("Unused").is_none());
        assert_eq!(paid.example(None).unwrap(), json!({"id": "in_1"}));
    }

    #[test]
    fn every_entry_that_makes_no_event_type_is_named() {
        let wrong = |document: Value| {
            let wrong = event_types(&document).unwrap_err();
            wrong.into_iter().map(|one| one.reason).collect::<Vec<_>>().join("\n")
        };
        assert!(wrong(json!({"openapi": "3.0.3", "webhooks": {"a": {}}})).contains("OpenAPI 3.1"));
        assert!(wrong(json!({"openapi": "3.1.0"})).contains("no webhooks"));
        let body =
            |schema: Value| json!({"post": {"requestBody": {"content": {"application/json": {"schema": schema}}}}});
        let said = wrong(document(json!({
            "no name": body(json!({})), "get.only": {"get": {}}, "loop": {"$ref": "#/webhooks/loop"},
            "elsewhere": {"$ref": "https://example.com/x"}, "dangling": body(json!({"$ref": "#/components/schemas/No"})),
            "invalid": body(json!({"type": "nothing"})),
        })));
        for part in [
            "\"no name\" cannot be",
            "\"get.only\" has no \"post\"",
            "\"loop\" has more than 16",
            "not in this document",
            "schemas/No, which does not exist",
            "\"invalid\" is not valid",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(parse("{").unwrap_err()[0].reason.contains("as JSON"));
        assert!(parse(&" ".repeat(DOCUMENT_BYTES + 1)).is_err());
    }

    const YAML: &str = "\
# The events of a shop.
openapi: 3.1.0
x-shared: &shared
  content:
    application/json:
      schema:
        type: object
        properties: {state: {enum: [no, on, 'true']}, amount: {minimum: 1, maximum: 2.5, default: null}}
        additionalProperties: false
webhooks:
  invoice.paid:
    post:
      deprecated: true
      description: |
        An invoice
        was paid.
      requestBody: *shared
      responses:
        200: {description: Understood}
";

    #[test]
    fn a_document_may_be_yaml() {
        let found = parse(YAML).unwrap();
        let [paid] = &found[..] else { panic!("one event type") };
        assert_eq!(
            (paid.name.as_str(), paid.description.as_str(), paid.deprecated),
            ("invoice.paid", "An invoice\nwas paid.", true)
        );
        let schema = json!({"type": "object", "additionalProperties": false, "properties": {
            "state": {"enum": ["no", "on", "true"]}, "amount": {"minimum": 1, "maximum": 2.5, "default": null}}});
        assert_eq!(paid.schemas.as_ref().unwrap()["1"], schema);
        let reason = |text: &str| parse(text).unwrap_err().swap_remove(0).reason;
        for text in ["openapi: [", "openapi: 3.1.0\nopenapi: 3.1.0", "webhooks: *none", "a: 1\n---\nb: 2"] {
            assert!(
                reason(text).starts_with("must be an OpenAPI document as JSON or YAML: "),
                "{text}: {}",
                reason(text)
            );
        }
        assert!(reason("just text").contains("3.1"), "{}", reason("just text"));
    }

    /// A few lines that would become gigabytes, or a stack that overflows.
    #[test]
    fn a_bomb_of_yaml_is_refused() {
        let mut laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
        for n in 1..20 {
            let row = vec![format!("*a{}", n - 1); 10].join(", ");
            laughs += &format!("a{n}: &a{n} [{row}]\n");
        }
        let long = format!("text: &text {}\nall: [{}]\n", "x".repeat(1_000_000), vec!["*text"; 90].join(", "));
        let nested = "[".repeat(10_000);
        let blocks: String = (0..1_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        let recursive = "a: &a [*a]\n".to_owned();
        let many = "- 1\n".repeat(YAML_VALUES + 1);
        for text in [laughs, long, nested, blocks, recursive, many] {
            let begun = std::time::Instant::now();
            let reason = parse(&text).unwrap_err().swap_remove(0).reason;
            assert!(reason.contains("as JSON or YAML: ") || text.starts_with("a: &a"), "{reason}");
            assert!(reason.len() < 1_000 && begun.elapsed().as_secs() < 10, "{reason}");
        }
    }
}
