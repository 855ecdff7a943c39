//! Query strings of URLs: one parser and one builder.

use std::borrow::Cow;

use url::form_urlencoded;

/// A parsed query string. Names may repeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UrlQuery<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> UrlQuery<'a> {
    /// Parses a query string, without its `?`.
    pub fn parse(query: &'a str) -> UrlQuery<'a> {
        UrlQuery(form_urlencoded::parse(query.as_bytes()).collect())
    }

    /// All parameters, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// All values of a parameter.
    pub fn all<'q>(&'q self, name: &str) -> impl Iterator<Item = &'q str> {
        self.iter().filter(move |(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The first value of a parameter, unless it is empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next().filter(|value| !value.is_empty())
    }
}

impl UrlQuery<'_> {
    /// The same parameters, owned.
    pub fn into_owned(self) -> UrlQuery<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        UrlQuery(self.0.into_iter().map(|(name, value)| (owned(name), owned(value))).collect())
    }
}

/// A query string, without its `?`. Parameters with an empty value are left out.
pub fn encode<'p>(pairs: impl IntoIterator<Item = (&'p str, &'p str)>) -> String {
    let pairs = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// `path` with a query string of `pairs`, as [`encode`] writes it; `path` alone if there are none.
pub fn with_query<'p>(path: &str, pairs: impl IntoIterator<Item = (&'p str, &'p str)>) -> String {
    let query = encode(pairs);
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::domain::url_query::*;
    use crate::fuzzing::fuzz;

    #[test]
    fn a_built_query_parses_to_its_pairs() {
        let url = with_query("/deliveries", [("status", "dead"), ("tag", "a&b=ü"), ("type", "")]);
        let query = UrlQuery::parse(url.strip_prefix("/deliveries?").expect("a query"));
        assert_eq!(query.get("status"), Some("dead"));
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["a&b=ü"]);
        assert_eq!((query.get("none"), UrlQuery::parse("x=").get("x")), (None, None));
        assert_eq!(with_query("/deliveries", [("status", "")]), "/deliveries");
    }

    /// Encoded pairs decode to the same pairs, and any text can be decoded.
    #[test]
    fn fuzz_form_bodies() {
        let pairs = prop::collection::vec((".{0,12}", ".{1,12}"), 0..6);
        fuzz("form_bodies", "([a-z%&=+;0-9]|.){0,60}", pairs, |text, pairs| {
            let body = encode(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            prop_assert!(body.bytes().all(|byte| byte.is_ascii_graphic()));
            let read: Vec<(String, String)> =
                UrlQuery::parse(&body).iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            prop_assert_eq!(&read, pairs);
            let mut behaviors = Vec::new();
            for (name, value) in UrlQuery::parse(text).iter() {
                prop_assert!(name.len() + value.len() <= 3 * text.len());
                let odd = |text: &str| (text.is_empty(), text.contains('\u{fffd}'), text.contains(char::is_control));
                behaviors.push(format!("{:?} {:?}", odd(name), odd(value)));
            }
            // Any text as a value.
            let body = encode([("a", text)]);
            let query = UrlQuery::parse(&body);
            prop_assert_eq!(query.get("a").unwrap_or_default(), text);
            behaviors.push(format!("{} pairs", behaviors.len()));
            Ok(behaviors)
        });
    }
}
