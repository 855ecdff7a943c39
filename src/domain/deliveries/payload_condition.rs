//! Conditions on a payload field, as typed into the search field of a list: `amount > 100`, `customer.id = "c1"`,
//! `lines[0].sku != null`. Any other text is searched for literally.

use serde_json::Value;

/// Maximum number of segments of a path.
const SEGMENTS: usize = 16;
/// Maximum characters of a condition.
const LONGEST: usize = 500;

/// The comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// The longer ones first: `>` begins `>=`.
    const ALL: [Comparison; 6] = [
        Comparison::NotEqual,
        Comparison::LessOrEqual,
        Comparison::GreaterOrEqual,
        Comparison::Equal,
        Comparison::Less,
        Comparison::Greater,
    ];

    const fn written(self) -> &'static str {
        match self {
            Comparison::Equal => "=",
            Comparison::NotEqual => "!=",
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        }
    }

    /// The operator in SQL.
    pub const fn sql(self) -> &'static str {
        match self {
            Comparison::NotEqual => "<>",
            other => other.written(),
        }
    }

    /// Whether it compares by order, as only numbers and strings do.
    const fn is_ordering(self) -> bool {
        !matches!(self, Comparison::Equal | Comparison::NotEqual)
    }
}

/// A segment of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathSegment {
    Field(String),
    /// A position in an array.
    Index(u32),
}

/// A condition on a field: the field exists, has the value's type, and compares to it in this way. `!=` also matches
/// other types.
#[derive(Clone, Debug, PartialEq)]
pub struct PayloadCondition {
    pub path: Vec<PathSegment>,
    pub comparison: Comparison,
    /// A string, number, boolean or null.
    pub value: Value,
}

impl PayloadCondition {
    /// Parses a condition; `None`: the text is not a condition.
    pub fn parse(text: &str) -> Option<PayloadCondition> {
        if text.len() > LONGEST {
            return None;
        }
        let at = text.find(['=', '!', '<', '>'])?;
        let (path, rest) = text.split_at(at);
        let comparison = Comparison::ALL.into_iter().find(|one| rest.starts_with(one.written()))?;
        let value: Value = serde_json::from_str(rest.strip_prefix(comparison.written())?.trim()).ok()?;
        let fits = match &value {
            Value::Number(_) => true,
            // PostgreSQL's jsonb has no such character.
            Value::String(text) => !text.contains('\0'),
            Value::Bool(_) | Value::Null => !comparison.is_ordering(),
            Value::Array(_) | Value::Object(_) => false,
        };
        let path = segments(path.trim())?;
        fits.then_some(PayloadCondition { path, comparison, value })
    }
}

fn segments(path: &str) -> Option<Vec<PathSegment>> {
    let mut segments = Vec::new();
    for part in path.split('.') {
        let (name, mut rest) = part.split_at(part.find('[').unwrap_or(part.len()));
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '$' | ':' | '@');
        if name.is_empty() || !name.chars().all(plain) {
            return None;
        }
        match name.parse() {
            Ok(index) if !segments.is_empty() => segments.push(PathSegment::Index(index)),
            _ => segments.push(PathSegment::Field(name.to_owned())),
        }
        while let Some(inner) = rest.strip_prefix('[') {
            let (index, after) = inner.split_once(']')?;
            segments.push(PathSegment::Index(index.parse().ok()?));
            rest = after;
        }
        if !rest.is_empty() {
            return None;
        }
    }
    (segments.len() <= SEGMENTS).then_some(segments)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_are_distinguished_from_plain_text() {
        let parsed = |text: &str| {
            let PayloadCondition { path, comparison, value } = PayloadCondition::parse(text)?;
            let segment = |one: PathSegment| match one {
                PathSegment::Field(name) => name,
                PathSegment::Index(index) => format!("#{index}"),
            };
            let path: Vec<String> = path.into_iter().map(segment).collect();
            Some((path.join("/"), comparison, value))
        };
        assert_eq!(parsed("amount > 100"), Some(("amount".into(), Comparison::Greater, json!(100))));
        assert_eq!(parsed("customer.id=\"c1\""), Some(("customer/id".into(), Comparison::Equal, json!("c1"))));
        assert_eq!(parsed("lines[2].a != null"), Some(("lines/#2/a".into(), Comparison::NotEqual, json!(null))));
        assert_eq!(parsed("lines.0.a >= -1.5"), Some(("lines/#0/a".into(), Comparison::GreaterOrEqual, json!(-1.5))));
        assert_eq!(parsed("paid = true"), Some(("paid".into(), Comparison::Equal, json!(true))));
        for text in [
            "in_1",
            "a = b",
            "\"n\": 0",
            "a = {}",
            "a > true",
            "= 1",
            "a b = 1",
            "a[x] = 1",
            "a[1]b = 1",
            "a..b = 1",
            "a =",
            "a = 1 2",
            "a = \"\\u0000\"",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
        assert_eq!(parsed(&format!("{} = 1", vec!["a"; 17].join("."))), None);
    }
}
