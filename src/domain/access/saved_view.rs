//! A **saved view**: the filters of a list under a name, for one operator's account in one organization.

use crate::domain::{Invalid, limits};

/// The list that a view filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewList {
    Deliveries,
    Messages,
}

impl ViewList {
    /// The word in the store and in URLs.
    pub fn word(self) -> &'static str {
        match self {
            ViewList::Deliveries => "deliveries",
            ViewList::Messages => "messages",
        }
    }

    pub fn from_word(word: &str) -> Option<ViewList> {
        [ViewList::Deliveries, ViewList::Messages].into_iter().find(|list| list.word() == word)
    }
}

/// A saved view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedView {
    /// Unique among the account's views of the organization.
    pub name: String,
    pub list: ViewList,
    /// The query string of the list, without its `?`.
    pub query: String,
}

impl SavedView {
    /// A view with a trimmed name.
    ///
    /// # Errors
    /// The name is empty, too long or more than one line, or there are no filters, or too many.
    pub fn new(name: &str, list: ViewList, query: String) -> Result<SavedView, Invalid> {
        let name = name.trim().to_owned();
        if name.is_empty() || name.chars().count() > limits::VIEW_NAME || name.chars().any(char::is_control) {
            return Err(Invalid::new("name", format!("must have 1 to {} characters", limits::VIEW_NAME)));
        }
        if query.is_empty() || query.len() > limits::VIEW_QUERY {
            return Err(Invalid::new("name", "needs at least one filter, and no more than fit into a URL"));
        }
        Ok(SavedView { name, list, query })
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::access::saved_view::*;

    #[test]
    fn names_and_queries_are_bounded() {
        let view = |name: &str, query: &str| SavedView::new(name, ViewList::Messages, query.to_owned());
        assert_eq!(view(" Dead today ", "status=dead").unwrap().name, "Dead today");
        assert!(view(&"ü".repeat(60), "a=b").is_ok() && view(&"ü".repeat(61), "a=b").is_err());
        assert!(view("", "a=b").is_err() && view("a\nb", "a=b").is_err());
        assert!(view("a", "").is_err() && view("a", &"x".repeat(2_049)).is_err());
        for list in [ViewList::Deliveries, ViewList::Messages] {
            assert_eq!(ViewList::from_word(list.word()), Some(list));
        }
    }
}
