//! The search of payloads in SQL: a substring, or a [condition on a field](PayloadCondition).

use crate::domain::deliveries::payload_condition::{Comparison, PathSegment, PayloadCondition};
use crate::store::db::statement::{SqlValue, Statement};
use crate::store::{Backend, Store};

/// Appends a search as a condition on the messages `m`. Substrings are compared by bytes.
pub(in crate::store) fn push(store: &Store, sql: &mut Statement, text: &str) {
    let sqlite = matches!(&store.inner.backend, Backend::Sqlite(_));
    match PayloadCondition::parse(text) {
        Some(condition) if sqlite => push_on_sqlite(sql, &condition),
        Some(condition) => push_on_postgres(sql, &condition),
        None => {
            let bytes = SqlValue::Bytes(text.as_bytes().to_vec());
            match sqlite {
                true => sql.push(" AND instr(m.payload, ").bind(bytes).push(") > 0"),
                false => sql.push(" AND position(").bind(bytes).push(" IN m.payload) > 0"),
            };
        }
    }
}

/// SQLite's JSON functions fail on a raw payload that is not JSON. CASE is evaluated in order.
fn push_on_sqlite(sql: &mut Statement, condition: &PayloadCondition) {
    let path: String = condition.path.iter().map(segment).collect();
    let path = SqlValue::Text(format!("${path}"));
    let literal = SqlValue::Text(condition.value.to_string());
    let payload = "CAST(m.payload AS TEXT)";
    sql.push(&format!(" AND CASE WHEN m.raw_type IS NULL AND m.payload IS NOT NULL AND json_type({payload}, "));
    sql.bind(path.clone()).push(") IS NOT NULL THEN ");
    // SQLite has two types of numbers, which are compared as one.
    let kind = |sql: &mut Statement| {
        sql.push(&format!("replace(json_type({payload}, ")).bind(path.clone()).push("), 'real', 'integer')");
    };
    let negated = condition.comparison == Comparison::NotEqual;
    sql.push(if negated { "NOT (" } else { "(" });
    kind(sql);
    sql.push(" = replace(json_type(").bind(literal.clone()).push("), 'real', 'integer')");
    if !condition.value.is_null() {
        let operator = if negated { "=" } else { condition.comparison.sql() };
        sql.push(&format!(" AND json_extract({payload}, ")).bind(path).push(&format!(") {operator} json_extract("));
        sql.bind(literal).push(", '$')");
    }
    sql.push(") ELSE FALSE END");
}

fn segment(segment: &PathSegment) -> String {
    match segment {
        // The parser has rejected quotes and backslashes.
        PathSegment::Field(name) => format!(".\"{name}\""),
        PathSegment::Index(index) => format!("[{index}]"),
    }
}

fn push_on_postgres(sql: &mut Statement, condition: &PayloadCondition) {
    let path: Vec<String> = condition
        .path
        .iter()
        .map(|segment| match segment {
            PathSegment::Field(name) => format!("\"{name}\""),
            PathSegment::Index(index) => index.to_string(),
        })
        .collect();
    let path = SqlValue::Text(format!("{{{}}}", path.join(",")));
    let literal = SqlValue::Text(condition.value.to_string());
    let field = |sql: &mut Statement| {
        sql.push("payload_json(m.payload) #> CAST(").bind(path.clone()).push(" AS text[])");
    };
    sql.push(" AND COALESCE(");
    if condition.comparison != Comparison::NotEqual {
        sql.push("jsonb_typeof(");
        field(sql);
        sql.push(") = jsonb_typeof(CAST(").bind(literal.clone()).push(" AS jsonb)) AND ");
    }
    field(sql);
    sql.push(&format!(" {} CAST(", condition.comparison.sql())).bind(literal).push(" AS jsonb), FALSE)");
}
