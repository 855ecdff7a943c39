//! Schemas as readable text.
//!
//! * [`SchemaIndex`]: all schemas of the document by name.
//! * [`TypeText`]: the type of a value on one line: `integer, 1 to 250, or null`, with links to named schemas.
//! * [`FieldDoc`]: a member of an object, or a parameter, with its type and description.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AdditionalProperties, Array, ArrayItems, Object, Schema, SchemaType, Type};

use crate::api::openapi::docs_page::prose::Prose;
use crate::api::openapi::schemas::NAME;

/// All schemas of the document.
pub(super) struct SchemaIndex<'d>(pub &'d BTreeMap<String, RefOr<Schema>>);

/// The type of a value: pieces of text, each with an optional anchor of a schema.
#[derive(Default)]
pub(super) struct TypeText(pub Vec<(String, Option<String>)>);

/// A member of an object, or a parameter.
pub(super) struct FieldDoc {
    pub name: String,
    pub required: bool,
    pub kind: TypeText,
    pub about: Prose,
}

impl TypeText {
    fn text(&mut self, text: impl Into<String>) -> &mut TypeText {
        self.0.push((text.into(), None));
        self
    }

    fn link(&mut self, name: &str) {
        self.0.push((name.to_owned(), Some(format!("schema-{name}"))));
    }
}

/// The description of a schema.
pub(super) fn about(schema: &RefOr<Schema>) -> &str {
    match schema {
        RefOr::Ref(named) => &named.description,
        RefOr::T(Schema::Object(object)) => object.description.as_deref().unwrap_or_default(),
        RefOr::T(Schema::Array(array)) => array.description.as_deref().unwrap_or_default(),
        RefOr::T(Schema::OneOf(choice)) => choice
            .description
            .as_deref()
            .or(choice.items.iter().map(about).find(|about| !about.is_empty()))
            .unwrap_or_default(),
        RefOr::T(_) => "",
    }
}

fn name_of(reference: &str) -> &str {
    reference.rsplit('/').next().unwrap_or_default()
}

impl<'d> SchemaIndex<'d> {
    fn get(&self, reference: &str) -> Option<&'d RefOr<Schema>> {
        self.0.get(name_of(reference))
    }

    /// A member of an object, or a parameter. Its own description takes precedence over its schema's.
    pub fn field(&self, name: &str, schema: Option<&RefOr<Schema>>, required: bool, own: &str) -> FieldDoc {
        let kind = schema.map(|schema| self.kind(schema)).unwrap_or_default();
        let about = if own.is_empty() { schema.map(about).unwrap_or_default() } else { own };
        FieldDoc { name: name.to_owned(), required, kind, about: Prose::of(about) }
    }

    /// The members of an object.
    pub fn fields(&self, schema: &RefOr<Schema>) -> Vec<FieldDoc> {
        let object = match schema {
            RefOr::Ref(named) => {
                return self.get(&named.ref_location).map(|schema| self.fields(schema)).unwrap_or_default();
            }
            RefOr::T(Schema::Object(object)) => object,
            RefOr::T(_) => return Vec::new(),
        };
        let field = |(name, schema): (&String, &RefOr<Schema>)| {
            self.field(name, Some(schema), object.required.contains(name), "")
        };
        object.properties.iter().map(field).collect()
    }

    /// The type; named schemas are links.
    pub fn kind(&self, schema: &RefOr<Schema>) -> TypeText {
        let mut kind = TypeText::default();
        match schema {
            RefOr::Ref(named) => kind.link(name_of(&named.ref_location)),
            RefOr::T(schema) => self.describe(schema, &mut kind),
        }
        kind
    }

    /// The type, with a named schema expanded.
    pub fn expanded(&self, schema: &RefOr<Schema>) -> TypeText {
        let mut kind = TypeText::default();
        if let RefOr::T(schema) = schema {
            self.describe(schema, &mut kind);
        }
        kind
    }

    fn describe(&self, schema: &Schema, kind: &mut TypeText) {
        match schema {
            Schema::Object(object) => self.describe_object(object, kind),
            Schema::Array(array) => self.describe_array(array, kind),
            Schema::OneOf(choice) => {
                for (i, one) in choice.items.iter().enumerate() {
                    if i > 0 {
                        kind.text(" or ");
                    }
                    kind.0.extend(self.kind(one).0);
                }
            }
            Schema::AllOf(_) | Schema::AnyOf(_) => drop(kind.text("any")),
            _ => {}
        }
    }

    fn describe_array(&self, array: &Array, kind: &mut TypeText) {
        kind.text("list of ");
        if let ArrayItems::RefOrSchema(items) = &array.items {
            kind.0.extend(self.kind(items).0);
        }
        match (array.min_items, array.max_items) {
            (Some(least), Some(most)) => drop(kind.text(format!(", {least} to {most}"))),
            (Some(1), None) => drop(kind.text(", not empty")),
            (None, Some(most)) => drop(kind.text(format!(", at most {most}"))),
            _ => {}
        }
        if nullable(&array.schema_type) {
            kind.text(" or null");
        }
    }

    fn describe_object(&self, object: &Object, kind: &mut TypeText) {
        if let Some(words) = &object.enum_values {
            let words: Vec<String> = words.iter().map(plain).collect();
            kind.text(words.join(", "));
        } else if let (Some(AdditionalProperties::RefOr(values)), true) =
            (object.additional_properties.as_deref(), object.properties.is_empty())
        {
            kind.text("object of ").0.extend(self.kind(values).0);
            if let Some(most) = object.max_properties {
                kind.text(format!(", at most {most}"));
            }
        } else if !object.properties.is_empty() && object.properties.len() < 4 {
            kind.text("{");
            for (i, (name, schema)) in object.properties.iter().enumerate() {
                kind.text(format!("{}{name}: ", if i > 0 { ", " } else { "" }));
                kind.0.extend(self.kind(schema).0);
            }
            kind.text("}");
        } else {
            kind.text(word(&object.schema_type));
            kind.text(limits(object));
        }
        if nullable(&object.schema_type) {
            kind.text(" or null");
        }
    }

    /// An example in JSON: the schema's own, or composed from those of its parts.
    pub fn example(&self, schema: &RefOr<Schema>) -> String {
        let mut text = String::new();
        self.write_example(schema, 0, &mut text);
        text
    }

    fn write_example(&self, schema: &RefOr<Schema>, depth: usize, text: &mut String) {
        let schema = match schema {
            RefOr::Ref(named) => match self.get(&named.ref_location) {
                Some(schema) => return self.write_example(schema, depth, text),
                None => return text.push_str("{}"),
            },
            RefOr::T(schema) => schema,
        };
        match schema {
            Schema::Object(object) => self.write_object(object, depth, text),
            Schema::Array(array) => match (array.examples.first(), &array.items) {
                (Some(example), _) => drop(write!(text, "{example}")),
                (None, ArrayItems::RefOrSchema(items)) => {
                    text.push('[');
                    self.write_example(items, depth, text);
                    text.push(']');
                }
                (None, ArrayItems::False) => text.push_str("[]"),
            },
            Schema::OneOf(choice) => match choice.items.iter().find(|one| !is_null(one)) {
                Some(one) => self.write_example(one, depth, text),
                None => text.push_str("null"),
            },
            _ => text.push_str("{}"),
        }
    }

    fn write_object(&self, object: &Object, depth: usize, text: &mut String) {
        let given = object.example.as_ref().or(object.examples.first());
        if let Some(given) = given {
            let given = in_order(given, object);
            text.push_str(&given.replace('\n', &format!("\n{}", "  ".repeat(depth))));
        } else if let Some(first) = object.enum_values.as_ref().and_then(|words| words.first()) {
            let _ = write!(text, "{first}");
        } else if object.properties.is_empty() {
            text.push_str(match word(&object.schema_type) {
                "string" => "\"…\"",
                "integer" | "number" => "1",
                "true or false" => "false",
                _ => "{}",
            });
        } else {
            text.push('{');
            for (i, (name, schema)) in object.properties.iter().enumerate() {
                let _ = write!(text, "{}\n{}\"{name}\": ", if i > 0 { "," } else { "" }, "  ".repeat(depth + 1));
                self.write_example(schema, depth + 1, text);
            }
            let _ = write!(text, "\n{}}}", "  ".repeat(depth));
        }
    }
}

/// An example given by the schema, with its members in the schema's order, one per line.
fn in_order(given: &Value, object: &Object) -> String {
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    let Some(members) =
        given.as_object().filter(|members| members.keys().all(|name| object.properties.contains_key(name)))
    else {
        return pretty(given);
    };
    let known = object.properties.keys().filter_map(|name| Some((name, members.get(name)?)));
    let lines = known.map(|(name, value)| format!("  \"{name}\": {}", pretty(value).replace('\n', "\n  ")));
    format!("{{\n{}\n}}", lines.collect::<Vec<_>>().join(",\n"))
}

/// An enum value without quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn types(kind: &SchemaType) -> &[Type] {
    match kind {
        SchemaType::Type(one) => std::slice::from_ref(one),
        SchemaType::Array(all) => all,
        SchemaType::AnyValue => &[],
    }
}

fn nullable(kind: &SchemaType) -> bool {
    let all = types(kind);
    all.len() > 1 && all.contains(&Type::Null)
}

fn is_null(schema: &RefOr<Schema>) -> bool {
    matches!(schema, RefOr::T(Schema::Object(object)) if types(&object.schema_type) == [Type::Null])
}

fn word(kind: &SchemaType) -> &'static str {
    match types(kind).iter().find(|one| types(kind).len() == 1 || **one != Type::Null) {
        Some(Type::String) => "string",
        Some(Type::Integer) => "integer",
        Some(Type::Number) => "number",
        Some(Type::Boolean) => "true or false",
        Some(Type::Array) => "list",
        Some(Type::Null) => "null",
        Some(Type::Object) => "object",
        None => "any",
    }
}

/// The limits, pattern and default of a value.
fn limits(object: &Object) -> String {
    let number = |number: &utoipa::Number| match number {
        utoipa::Number::Int(number) => number.to_string(),
        utoipa::Number::UInt(number) => number.to_string(),
        utoipa::Number::Float(number) => number.to_string(),
    };
    let mut text = match (object.minimum.as_ref().map(number), object.maximum.as_ref().map(number)) {
        (Some(least), Some(most)) => format!(", {least} to {most}"),
        (Some(least), None) if least != "0" => format!(", at least {least}"),
        (None, Some(most)) => format!(", at most {most}"),
        _ => String::new(),
    };
    match (object.min_length, object.max_length) {
        (Some(least), Some(most)) => drop(write!(text, ", {least} to {most} characters")),
        (None, Some(most)) => drop(write!(text, ", at most {most} characters")),
        _ => {}
    }
    match object.pattern.as_deref() {
        Some(NAME) => text.push_str(" of a–z A–Z 0–9 - _ ."),
        Some(pattern) => drop(write!(text, ", {pattern}")),
        None => {}
    }
    if let Some(default) = &object.default {
        let _ = write!(text, ", default {}", plain(default));
    }
    text
}
