//! The OpenAPI document as a judge: every answer that any test of this binary gets from `/api/v1` is held against it. A status, a header
//! or a field that is not described, or one that is described and missing, fails the test that met it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::Validator;
use reqwest::header::{ALLOW, CONTENT_TYPE, HeaderMap};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

pub const BASE: &str = "/api/v1";

/// The document, as it is served.
pub fn document() -> &'static Value {
    static DOCUMENT: LazyLock<Value> =
        LazyLock::new(|| serde_json::to_value(sendoff::api::openapi::document()).expect("JSON"));
    &DOCUMENT
}

/// All operations: method, path under [`BASE`], what is said of it.
pub fn operations() -> Vec<(String, String, &'static Value)> {
    let items = document()["paths"].as_object().expect("paths").iter();
    let operations = items.flat_map(|(path, item)| {
        let path = path.strip_prefix(BASE).expect("under the base");
        let methods = item.as_object().expect("an item").iter();
        methods.map(move |(method, said)| (method.to_uppercase(), path.to_owned(), said))
    });
    operations.collect()
}

/// Whether `path` is one of `template`; the better it fits, the greater.
fn fits(template: &str, path: &str) -> Option<usize> {
    let (template, path): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
    let part = |(name, part): (&&str, &&str)| match name.starts_with('{') {
        true => (!part.is_empty()).then_some(0),
        false => (name == part).then_some(1),
    };
    if template.len() != path.len() {
        return None;
    }
    template.iter().zip(&path).map(part).sum()
}

/// The template of a path under [`BASE`], and the operation there, if there are such.
fn operation(method: &str, path: &str) -> (Option<String>, Option<&'static Value>) {
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut best: Option<(usize, &str)> = None;
    let all = operations();
    for (_, template, _) in &all {
        if let Some(fit) = fits(template, path)
            && best.is_none_or(|(before, _)| fit > before)
        {
            best = Some((fit, template));
        }
    }
    let method = if method == "HEAD" { "GET" } else { method };
    let Some((_, template)) = best else { return (None, None) };
    let found = all.iter().find(|(one, other, _)| one == method && other == template);
    (Some(template.to_owned()), found.map(|(_, _, said)| *said))
}

/// Follows a `$ref`.
pub fn resolved(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(reference) => document().pointer(reference.trim_start_matches('#')).expect("what is referred to"),
        None => value,
    }
}

/// Panics where an answer is not as the document says. `path` is that of the URL, without its query.
pub fn check(method: &str, path: &str, status: u16, headers: &HeaderMap, text: &str) {
    let Some(path) = path.strip_prefix(BASE) else { return };
    let what = format!("{method} {path} was answered with {status} {text:?}");
    let (template, said) = operation(method, path);
    let Some(said) = said else {
        match template {
            None => assert_eq!(status, 404, "nothing is described there: {what}"),
            Some(_) => {
                assert!(status == 405 || status == 400, "no such method is described: {what}");
                assert!(status == 400 || headers.contains_key(ALLOW), "{what}");
            }
        }
        return;
    };
    let response = &said["responses"][status.to_string()];
    assert!(response.is_object(), "this status is not described: {what}");
    let response = resolved(response);
    for name in response["headers"].as_object().into_iter().flat_map(|headers| headers.keys()) {
        assert!(headers.contains_key(name.as_str()), "without {name}: {what}");
    }
    let Some(content) = response.get("content").filter(|_| method != "HEAD") else {
        assert_eq!(text, "", "no body is described: {what}");
        return;
    };
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    assert_eq!(kind, "application/json", "{what}");
    let Ok(body) = serde_json::from_str::<Value>(text) else {
        // A payload is given back as it was written, half a surrogate pair included: JSON, but more than a `Value` can hold.
        serde_json::from_str::<IgnoredAny>(text).unwrap_or_else(|error| panic!("{error}: {what}"));
        return;
    };
    let wrong: Vec<String> = validator(&content["application/json"]["schema"])
        .iter_errors(&body)
        .map(|error| format!("{} at {}", error, error.instance_path()))
        .collect();
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

/// Of a schema in the document. What is given out may have no field that is not described.
fn validator(schema: &Value) -> Arc<Validator> {
    static KNOWN: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let validator = known.entry(schema.to_string()).or_insert_with(|| {
        let mut components = document()["components"].clone();
        for (name, schema) in components["schemas"].as_object_mut().expect("schemas") {
            if name.ends_with("Out") || name.starts_with("ListResponse") || name.ends_with("Error") {
                schema["additionalProperties"] = json!(false);
            }
        }
        let whole = json!({"allOf": [schema], "components": components});
        let options = jsonschema::draft202012::options().should_validate_formats(true);
        Arc::new(options.build(&whole).expect("a schema"))
    });
    Arc::clone(validator)
}
