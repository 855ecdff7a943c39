//! The limits on request fields and on numbers of resources, in one table. A test compares it with `docs/limits.md`;
//! another checks that every field of every request body in the OpenAPI document has a limit.
//!
//! *Characters* are Unicode scalar values; *bytes* are bytes of UTF-8.

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The limited field or resource, as the documentation calls it.
    pub what: &'static str,
    /// The largest accepted value.
    pub most: usize,
    /// The unit of `most`.
    pub unit: &'static str,
}

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident = $most:expr, $what:literal, $unit:literal;)*) => {
        $($(#[$doc])* pub const $name: usize = $most;)*

        /// All limits, in the order of `docs/limits.md`.
        pub const TABLE: &[Limit] = &[$(Limit { what: $what, most: $name, unit: $unit }),*];
    };
}

limits! {
    /// The longest uid, event type, feature flag, group, session id, consumer or name of a header, in characters.
    NAME = 256, "uid, event type, feature flag, group name, session id, consumer, name of a header", "characters";
    /// The longest name of an application, in characters.
    APPLICATION_NAME = 256, "name of an application", "characters";
    /// The longest e-mail address, in bytes.
    EMAIL = 254, "`contactEmail`", "bytes";
    /// The longest description of an endpoint or event type, in characters.
    DESCRIPTION = 4_096, "description of an endpoint or event type", "characters";
    /// The longest URL of an endpoint or a logo, in bytes.
    URL = 2_048, "URL of an endpoint, or of a logo", "bytes";
    /// Maximum pairs of metadata.
    METADATA = 50, "metadata of an application, endpoint or polling endpoint", "pairs";
    /// Maximum bytes of metadata, names and values together.
    METADATA_BYTES = 4_096, "metadata, names and values together", "bytes";
    /// Maximum event types in the filter of an endpoint, a polling endpoint or a replay.
    EVENT_TYPES = 500, "event types in the filter of an endpoint, a polling endpoint or a replay", "names";
    /// Maximum channels in the filter of an endpoint or a polling endpoint.
    ENDPOINT_CHANNELS = 10, "channels of an endpoint or a polling endpoint", "names";
    /// The longest channel, in characters.
    CHANNEL = 128, "channel", "characters";
    /// Maximum custom headers of an endpoint.
    HEADERS = 50, "headers of an endpoint", "headers";
    /// Maximum bytes of an endpoint's custom headers, names and values together.
    HEADERS_BYTES = 8_192, "headers of an endpoint, names and values together", "bytes";
    /// The longest value of a custom header, in bytes.
    HEADER_VALUE = 4_096, "value of one of these headers", "bytes";
    /// Maximum extra signatures of an endpoint.
    EXTRA_SIGNATURES = 4, "extra signatures of an endpoint", "signatures";
    /// Maximum retries in a retry schedule.
    RETRIES = 20, "retry schedule of an endpoint", "waits";
    /// The longest text of a secret, in bytes.
    SECRET = 128, "secret, as text", "bytes";
    /// Maximum old secrets that sign in addition to an endpoint's current one.
    OLD_SECRETS = 5, "old secrets that still sign", "secrets";
    /// Maximum feature flags of an event type or a portal session.
    FEATURE_FLAGS = 50, "feature flags of an event type or a portal session", "names";
    /// Maximum bytes of an event type's schemas, as JSON.
    SCHEMAS_BYTES = 256 * 1024, "schemas of an event type, as JSON", "bytes";
    /// Maximum event types of an organization, archived ones included.
    CATALOG = 10_000, "event types of an organization, archived ones included", "event types";
    /// Maximum organizations with a name or defaults of their own.
    ORGANIZATIONS = 10_000, "organizations with a name or defaults of their own", "organizations";
    /// Maximum active API keys of an organization.
    KEYS = 1_000, "API keys of an organization", "keys";
    /// Maximum unused portal links of an application; a new one beyond that replaces the oldest.
    PORTAL_LINKS = 1_000, "unused portal links of an application; a new one replaces the oldest", "links";
    /// Maximum portal sessions of an application; a new one beyond that ends the oldest.
    PORTAL_SESSIONS = 1_000, "portal sessions of an application; a new one ends the oldest", "sessions";
    /// Maximum portal sessions that one request can expire.
    SESSION_IDS = 100, "portal sessions that one request can expire", "sessions";
    /// Maximum expired session ids an application remembers, for existing and future sessions.
    ACCESS_ENDS = 1_000, "expired portal sessions of an application, remembered for a week", "sessions";
    /// Maximum channels of a message.
    MESSAGE_CHANNELS = 10, "channels of a message", "names";
    /// Maximum tags of a message.
    TAGS = 5, "tags of a message", "tags";
    /// The longest tag, in characters.
    TAG = 128, "tag", "characters";
    /// The longest content type of a raw payload, in bytes.
    RAW_TYPE = 256, "content type of a raw payload", "bytes";
    /// Maximum saved views of an operator's account in an organization.
    SAVED_VIEWS = 50, "saved views of an operator's account in an organization", "views";
    /// The longest name of a saved view, in characters.
    VIEW_NAME = 60, "name of a saved view", "characters";
    /// The longest query string of a saved view, in bytes.
    VIEW_QUERY = 2_048, "filters of a saved view, as a query string", "bytes";
    /// Maximum polling endpoints of an application.
    POLLING_ENDPOINTS = 20, "polling endpoints of an application", "polling endpoints";
    /// Maximum consumers of a polling endpoint.
    CONSUMERS = 100, "consumers of a polling endpoint", "consumers";
    /// Maximum autoconfig subscriptions of an application.
    AUTOCONFIGS = 100, "autoconfig subscriptions of an application", "subscriptions";
    /// Maximum development endpoints of an application; a new one beyond that replaces the one with the oldest report.
    DEVELOPMENT_ENDPOINTS = 20, "development endpoints of an application; a new one replaces the oldest", "endpoints";
    /// Maximum attempts kept of a development endpoint; a new one beyond that replaces the oldest.
    LOCAL_ATTEMPTS = 200, "attempts of a development endpoint; a new one replaces the oldest", "attempts";
    /// The longest reason that a development endpoint did not respond, in characters.
    DEVELOPMENT_ERROR = 256, "error of an attempt at a development endpoint", "characters";
    /// Maximum ids in one reconciliation request.
    RECEIVED_IDS = 10_000, "ids in one reconciliation request", "ids";
    /// Maximum buckets in the digest of one reconciliation request.
    DIGEST_BUCKETS = 3_000, "buckets in the digest of a reconciliation", "buckets";
    /// Maximum ids that one bucket of a digest counts.
    BUCKET_IDS = 1_000, "ids that one of these buckets counts", "ids";
    /// Maximum items of a page of a list.
    PAGE = 250, "page of a list", "items";
    /// Maximum bytes of items on a page, unless its first item alone is larger.
    PAGE_BYTES = 4 * 1024 * 1024, "page of a list, unless its first item is larger", "bytes";
    /// Maximum validation errors in one response.
    ERRORS = 20, "invalid values that one response lists", "values";
    /// The longest reason of a validation error, in characters.
    ERROR_TEXT = 1_000, "reason for one invalid value", "characters";
}

/// The first 5 of `names`, joined by commas, and the number of the others.
pub fn join_first(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let list = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{list} and {more} more"),
        _ => list,
    }
}

/// Truncates `text` to `most` characters and adds an ellipsis.
pub fn truncate(text: String, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_counted() {
        assert_eq!(join_first(&["a", "b"]), "a, b");
        assert_eq!(join_first(&["a"; 5]), "a, a, a, a, a");
        assert_eq!(join_first(&["a"; 8]), "a, a, a, a, a and 3 more");
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(truncate("äöü".into(), 3), "äöü");
        assert_eq!(truncate("äöü".into(), 2), "äö…");
    }

    /// `docs/limits.md` lists exactly the limits of the table.
    #[test]
    fn the_documentation_has_the_same_table() {
        let page = include_str!("../../docs/limits.md");
        let page = page.split("\n## ").next().unwrap_or_default();
        let told: Vec<&str> =
            page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what")).collect();
        let number = |most: usize| {
            let digits = most.to_string();
            let groups: Vec<&str> =
                digits.as_bytes().rchunks(3).rev().filter_map(|some| str::from_utf8(some).ok()).collect();
            groups.join(",")
        };
        let wanted = TABLE.iter().map(|limit| format!("| {} | {} {} |", limit.what, number(limit.most), limit.unit));
        assert_eq!(told, wanted.collect::<Vec<_>>());
    }
}
