//! An **endpoint** is a URL that receives an application's events. It has secrets, filters, limits and a health state.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use url::{Origin, Url};

use crate::domain::catalog::application::{Metadata, check_description, check_metadata, check_rate, check_text};
use crate::domain::deliveries::backoff::RetrySchedule;
use crate::domain::notifications::chat::ChatHook;
use crate::domain::signing::secret::SignatureType;
use crate::domain::signing::signature;
use crate::domain::signing::signature::ExtraSignature;
use crate::domain::{AppId, EndpointId, Invalid, Time, Uid, ids, limits};

/// Custom headers for each request: name → value. Values may be secrets: the store seals them, responses mask them.
pub type Headers = BTreeMap<String, String>;

/// Headers whose values are not masked. A name does not reveal whether its value is a secret, so all others are.
const SHOWN: [&str; 10] = [
    "accept",
    "accept-language",
    "cache-control",
    "prefer",
    "x-environment",
    "x-region",
    "x-source",
    "x-team",
    "x-tenant",
    "x-version",
];

/// Whether responses mask the value of this header.
pub fn masked_header(name: &str) -> bool {
    !SHOWN.iter().any(|shown| name.eq_ignore_ascii_case(shown))
}

/// Whether two URLs differ in scheme, host or port. Masked headers are dropped on such a change: a caller who cannot
/// read them could otherwise have them sent to their own server.
pub fn origin_changed(before: &str, after: &str) -> bool {
    let origin = |text: &str| Url::parse(text).ok().map(|url| url.origin()).filter(Origin::is_tuple);
    match (origin(before), origin(after)) {
        (Some(one), Some(other)) => one != other,
        _ => before != after,
    }
}

/// A change to an endpoint's custom headers.
#[derive(Clone, PartialEq, Eq)]
pub enum HeaderChange {
    /// Replaces all headers.
    Replace(Headers),
    /// Sets and deletes single headers; names are case-insensitive.
    Merge { set: Headers, delete: Vec<String> },
}

impl HeaderChange {
    /// The headers after the change.
    pub fn apply(&self, before: &Headers) -> Headers {
        match self {
            HeaderChange::Replace(headers) => headers.clone(),
            HeaderChange::Merge { set, delete } => {
                let stays = |name: &str| !set.keys().chain(delete).any(|other| other.eq_ignore_ascii_case(name));
                let kept = before.iter().filter(|(name, _)| stays(name));
                kept.chain(set).map(|(name, value)| (name.clone(), value.clone())).collect()
            }
        }
    }
}

/// Checks an endpoint's custom headers.
///
/// # Errors
/// Every broken rule. No value is quoted.
pub fn check_headers(headers: &Headers) -> Result<(), Vec<Invalid>> {
    let mut wrong = Vec::new();
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let (most, most_bytes) = (limits::HEADERS, limits::HEADERS_BYTES);
    if headers.len() > most || bytes > most_bytes {
        let reason = format!("may have at most {most} entries and {most_bytes} bytes in all");
        return Err(vec![Invalid::new("headers", reason)]);
    }
    let mut names = BTreeSet::new();
    for (name, value) in headers {
        wrong.extend(signature::header_allowed("headers", name, value).err());
        if !names.insert(name.to_ascii_lowercase()) {
            wrong.push(Invalid::new("headers", "must not have the same name twice: its case does not matter"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// A stored endpoint, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub id: EndpointId,
    pub app_id: AppId,
    pub spec: EndpointSpec,
    /// `Some` if it is disabled.
    pub disabled_reason: Option<DisabledReason>,
    pub created_at: Time,
    pub updated_at: Time,
}

/// The fields of an endpoint that a caller sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSpec {
    pub uid: Option<Uid>,
    /// The full URL as given; that of a chat hook is masked. `egress` checks whether Sendoff may connect to it.
    pub url: String,
    /// The endpoint is a chat channel: events are sent as chat messages, unsigned. Only for operational endpoints.
    pub chat: Option<ChatHook>,
    pub description: String,
    pub disabled: bool,
    /// Subscribed event types; `None`: all.
    pub event_types: Option<Vec<String>>,
    /// Subscribed channels; `None`: all messages, with or without channels.
    pub channels: Option<Vec<String>>,
    /// Messages per second; `None`: no limit.
    pub throttle_rate: Option<u16>,
    /// Timeout of one attempt, 1–30 s; `None`: the process's setting.
    pub timeout: Option<Duration>,
    /// The waits between attempts; `None`: the process's setting.
    pub retry_schedule: Option<RetrySchedule>,
    /// One delivery at a time, in the order of acceptance: each waits until its predecessor is delivered or dead.
    pub ordered: bool,
    pub signature_type: SignatureType,
    /// A field of Svix, stored without effect; `None`: 1.
    pub version: Option<u32>,
    pub extra_signatures: Vec<ExtraSignature>,
    pub headers: Headers,
    pub metadata: Metadata,
}

/// The reason an endpoint is disabled. The words are stored and public.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisabledReason {
    /// A caller or operator disabled it.
    Manual,
    /// The endpoint answered 410.
    Gone,
    /// Every attempt failed for `SENDOFF_ENDPOINT_DISABLE_AFTER`.
    Failing,
}

impl DisabledReason {
    /// The stored word.
    pub const fn word(self) -> &'static str {
        match self {
            DisabledReason::Manual => "manual",
            DisabledReason::Gone => "gone",
            DisabledReason::Failing => "failing",
        }
    }

    /// The reason of a stored word.
    pub fn from_word(word: &str) -> Option<DisabledReason> {
        [DisabledReason::Manual, DisabledReason::Gone, DisabledReason::Failing].into_iter().find(|r| r.word() == word)
    }
}

impl EndpointSpec {
    /// The URL that requests go to.
    pub fn request_url(&self) -> &str {
        self.chat.as_ref().map_or(&self.url, ChatHook::secret_url)
    }

    /// Sets the URL as a person or client gave it. The masked URL of a chat hook leaves it unchanged.
    pub fn set_url(&mut self, url: String) {
        match &mut self.chat {
            Some(hook) if url != hook.shown_url() => {
                *hook = ChatHook::new(hook.format, url);
                self.url = hook.shown_url();
            }
            Some(_) => {}
            None => self.url = url,
        }
    }

    /// Approximate size in bytes.
    pub fn size(&self) -> usize {
        let names = [&self.event_types, &self.channels].into_iter().flatten().flatten().map(String::len).sum::<usize>();
        let pairs = self.headers.iter().chain(&self.metadata).map(|(name, value)| name.len() + value.len());
        self.url.len() + self.description.len() + names + pairs.sum::<usize>()
    }

    /// Whether a message of `event_type` on `channels` is delivered to it. A message without channels does not match an
    /// endpoint that subscribes to channels.
    pub fn wants(&self, event_type: &str, channels: &[String]) -> bool {
        !self.disabled
            && self.event_types.as_ref().is_none_or(|types| types.iter().any(|one| one == event_type))
            && self.channels.as_ref().is_none_or(|wanted| wanted.iter().any(|one| channels.contains(one)))
    }

    /// Checks the rules that the types do not enforce. `egress` checks the address, the store checks that the event
    /// types exist.
    ///
    /// # Errors
    /// Every broken rule, not only the first.
    pub fn check(&self) -> Result<(), Vec<Invalid>> {
        let mut wrong = Vec::new();
        if self.url.is_empty() || self.url.len() > limits::URL {
            wrong.push(Invalid::new("url", format!("must have 1 to {} characters", limits::URL)));
        }
        check_text("url", &self.url, &mut wrong);
        wrong.extend(self.chat.as_ref().and_then(|hook| hook.check().err()));
        check_description(&self.description, &mut wrong);
        check_filter("eventTypes", self.event_types.as_deref(), limits::EVENT_TYPES, ids::event_type, &mut wrong);
        check_filter("channels", self.channels.as_deref(), limits::ENDPOINT_CHANNELS, ids::channel, &mut wrong);
        check_rate("throttleRate", self.throttle_rate, &mut wrong);
        check_metadata(&self.metadata, &mut wrong);
        let one_to_thirty = Duration::from_secs(1)..=Duration::from_secs(30);
        if self.timeout.is_some_and(|timeout| !one_to_thirty.contains(&timeout)) {
            wrong.push(Invalid::new("requestTimeoutSeconds", "must be 1 to 30"));
        }
        wrong.extend(check_headers(&self.headers).err().into_iter().flatten());
        wrong.extend(signature::check_extras("extraSignatures", &self.extra_signatures, self.signature_type).err());
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// Checks a filter: `None` (all), or at least one name, each valid by `rule`.
pub(crate) fn check_filter(
    field: &str,
    list: Option<&[String]>,
    most: usize,
    rule: impl Fn(&str, &str) -> Result<(), Invalid>,
    wrong: &mut Vec<Invalid>,
) {
    let Some(list) = list else { return };
    if list.is_empty() {
        wrong.push(Invalid::new(field, "must not be empty: leave it out, or set it to null, to get everything"));
    }
    wrong.extend(ids::all(field, list, most, rule));
}

#[cfg(test)]
mod tests {
    use crate::domain::catalog::endpoint::*;

    fn spec() -> EndpointSpec {
        EndpointSpec { url: "https://example.com/hook".into(), ..EndpointSpec::default() }
    }

    fn list(names: &[&str]) -> Option<Vec<String>> {
        Some(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn filters_choose() {
        let channels = |names: &[&str]| list(names).unwrap();
        assert!(spec().wants("a", &[]) && spec().wants("a", &channels(&["x"])));
        let typed = EndpointSpec { event_types: list(&["a", "b"]), ..spec() };
        assert!(typed.wants("b", &[]) && !typed.wants("c", &[]));
        let tuned = EndpointSpec { channels: list(&["x", "y"]), ..spec() };
        assert!(tuned.wants("a", &channels(&["z", "y"])) && !tuned.wants("a", &channels(&["z"])));
        assert!(!tuned.wants("a", &[]), "a message without channels passes by an endpoint that listens to some");
        assert!(!EndpointSpec { disabled: true, ..spec() }.wants("a", &[]));
    }

    #[test]
    fn headers_merge_regardless_of_case() {
        let of = |list: &[(&str, &str)]| -> Headers {
            list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let before = of(&[("X-A", "1"), ("x-b", "2"), ("x-c", "3")]);
        let merge = HeaderChange::Merge { set: of(&[("x-a", "9"), ("x-d", "4")]), delete: vec!["X-B".into()] };
        assert_eq!(merge.apply(&before), of(&[("x-a", "9"), ("x-c", "3"), ("x-d", "4")]));
        assert_eq!(HeaderChange::Replace(of(&[("x-z", "0")])).apply(&before), of(&[("x-z", "0")]));
        assert!(check_headers(&before).is_ok());
        let wrong = check_headers(&of(&[("X-A", "1"), ("x-a", "1")])).unwrap_err();
        assert!(wrong.len() == 1 && wrong[0].reason.contains("twice"), "{wrong:?}");
    }

    #[test]
    fn all_values_are_masked_but_those_of_a_few_names() {
        let guessed = ["Authorization", "cookie", "X-API-Key", "x-pass", "x-pwd", "x-jwt", "x-bearer", "x-sid"];
        for name in guessed.into_iter().chain(["x-signature", "x-access", "", "x-team-2", "my-x-team"]) {
            assert!(masked_header(name), "{name}");
        }
        for name in ["x-tenant", "Accept", "X-Team"] {
            assert!(!masked_header(name), "{name}");
        }
    }

    #[test]
    fn another_scheme_host_or_port_is_another_place() {
        let before = "https://a.example/hook?x=1";
        for same in ["https://a.example/other", "https://A.example:443/", "https://user@a.example/", before] {
            assert!(!origin_changed(before, same), "{same}");
        }
        for other in [
            "http://a.example/hook",
            "https://b.example/hook",
            "https://a.example:444/hook",
            "https://a.example./",
            "no",
        ] {
            assert!(origin_changed(before, other), "{other}");
        }
        assert!(!origin_changed("no", "no") && origin_changed("data:a", "data:b"));
    }

    #[test]
    fn every_broken_rule_is_named() {
        let wrong = EndpointSpec {
            event_types: list(&[]),
            channels: list(&["no spaces"]),
            throttle_rate: Some(0),
            timeout: Some(Duration::from_secs(31)),
            headers: [("webhook-id".to_owned(), "x".to_owned())].into(),
            ..EndpointSpec::default()
        };
        let fields: Vec<_> = wrong.check().unwrap_err().into_iter().map(|w| w.field).collect();
        assert_eq!(fields, ["url", "eventTypes", "channels", "throttleRate", "requestTimeoutSeconds", "headers"]);
        assert!(spec().check().is_ok());
    }
}
