//! One invalid value of a request, with its location and the reason.

use std::fmt;

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{Invalid, limits};

/// One invalid value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// `body`, `query`, `path` or `header`, then the field name unless it is the whole body.
    loc: Vec<String>,
    msg: String,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// The invalid values.
#[derive(ToSchema)]
#[schema(as = HTTPValidationError)]
#[expect(dead_code, reason = "for the document alone: `ErrorBody::Validation`")]
pub(in crate::api) struct HttpValidationError {
    detail: Vec<ValidationErrorItem>,
}

/// One invalid value.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document alone: `FieldError`")]
pub(in crate::api) struct ValidationErrorItem {
    /// The location: `body`, `query`, `path` or `header`, then the field name unless it is the whole body.
    #[schema(min_items = 1)]
    loc: Vec<String>,
    /// The fault, and the expected value.
    msg: String,
    /// A machine-readable code.
    #[schema(example = "value_error")]
    r#type: String,
}

impl FieldError {
    /// A body field that breaks a rule.
    pub fn body(field: &str, msg: impl Into<String>) -> FieldError {
        FieldError { loc: vec!["body".into(), field.into()], msg: msg.into(), kind: "value_error" }
    }

    /// The body as a whole is of the wrong type.
    pub fn whole_body(msg: &str) -> FieldError {
        FieldError { loc: vec!["body".into()], ..FieldError::wrong_type("", msg) }
    }

    /// A required body field is missing.
    pub fn missing(field: &str) -> FieldError {
        FieldError { kind: "missing", ..FieldError::body(field, "is required") }
    }

    /// A body field of the wrong type.
    pub fn wrong_type(field: &str, msg: impl Into<String>) -> FieldError {
        FieldError { kind: "type_error", ..FieldError::body(field, msg) }
    }

    /// A body field that this release does not support.
    pub fn unsupported(field: &str) -> FieldError {
        FieldError {
            kind: "not_supported",
            ..FieldError::body(field, "is not supported yet: leave it out or set it to null")
        }
    }

    /// The same error for a field of a nested object.
    pub fn within(mut self, outer: &str) -> FieldError {
        self.loc.insert(1.min(self.loc.len()), outer.to_owned());
        self
    }

    /// The same error for `name` in the `query`, `path` or `header`.
    pub(in crate::api::http) fn at(self, place: &str, name: &str) -> FieldError {
        FieldError { loc: vec![place.to_owned(), name.to_owned()], ..self }
    }

    /// Stands for the `left` errors beyond the limit.
    pub(in crate::api::http) fn more(left: usize) -> FieldError {
        FieldError { loc: vec!["body".into()], msg: format!("… and {left} more"), kind: "truncated" }
    }

    /// Cuts all texts to [`limits::ERROR_TEXT`]: names and reasons may quote the request.
    pub(in crate::api::http) fn within_limits(self) -> FieldError {
        let cut = |text| limits::truncate(text, limits::ERROR_TEXT);
        FieldError { loc: self.loc.into_iter().map(cut).collect(), msg: cut(self.msg), kind: self.kind }
    }

    /// Whether both errors are about the same value.
    pub fn same_location(&self, other: &FieldError) -> bool {
        self.loc == other.loc
    }
}

impl From<Invalid> for FieldError {
    fn from(wrong: Invalid) -> FieldError {
        FieldError { kind: wrong.kind, ..FieldError::body(&wrong.field, wrong.reason) }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.loc.join("."), self.msg)
    }
}
