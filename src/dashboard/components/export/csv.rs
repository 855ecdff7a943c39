//! CSV (RFC 4180) that is safe in spreadsheets: a value that would be evaluated as a formula begins with an apostrophe.

use serde_json::Value;

/// A line with its line break.
pub fn line(values: impl IntoIterator<Item = String>) -> String {
    let mut line = values.into_iter().map(|value| field(&value)).collect::<Vec<_>>().join(",");
    line.push_str("\r\n");
    line
}

/// A value as text. Numbers are safe; all other text is untrusted.
pub fn text(value: Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => neutral(text),
        other => other.to_string(),
    }
}

/// Text that no spreadsheet evaluates. Some spreadsheets trim spaces and line breaks before they detect a formula.
fn neutral(text: String) -> String {
    let start = text.trim_start_matches(|c: char| c.is_whitespace() || c.is_control());
    let formula = start.starts_with(['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}']);
    if formula || text.starts_with(['\t', '\r', '\n']) { format!("'{text}") } else { text }
}

fn field(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) || text.starts_with(' ') || text.ends_with(' ') {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use crate::dashboard::components::export::csv::*;

    #[test]
    fn formulas_are_neutralized() {
        for bad in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\r=1", "\n+1", "\u{ff1d}1", "\tx"] {
            assert!(text(Value::from(bad)).starts_with('\''), "{bad:?}");
        }
        for fine in ["a=b", "https://a.example/?a=1", "invoice.paid", "", "ü"] {
            assert_eq!(text(Value::from(fine)), fine);
        }
        assert_eq!(text(Value::from(-5)), "-5");
    }

    #[test]
    fn fields_are_quoted() {
        let values = ["a", "b,c", "d\"e", "f\ng", " h", ""].map(str::to_owned);
        assert_eq!(line(values), "a,\"b,c\",\"d\"\"e\",\"f\ng\",\" h\",\r\n");
    }
}
