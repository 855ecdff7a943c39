//! The settings of an endpoint, for its page.

use crate::dashboard::components::format::Line;
use crate::dashboard::components::page_text::PageText;
use crate::dashboard::endpoints::endpoint_fields::{MASK, in_words};
use crate::dashboard::event_types::visible_event_types;
use crate::dashboard::http::current_user::AppContext;
use crate::domain::catalog::endpoint::{Endpoint, masked_header};
use crate::domain::limits::NAME;
use crate::store::{Store, StoreError};

/// A setting and its values.
pub struct SettingRow {
    pub name: &'static str,
    pub values: Vec<PageText>,
}

/// The settings of an endpoint, for display. Customers see only event types offered to them.
///
/// # Errors
/// The store is unavailable.
pub async fn settings(store: &Store, context: &AppContext, endpoint: &Endpoint) -> Result<Vec<SettingRow>, StoreError> {
    let spec = &endpoint.spec;
    let list = |list: Option<&Vec<String>>| match list {
        None => vec![PageText::own("all")],
        Some(list) => list.iter().map(|one| PageText::foreign(one, NAME)).collect(),
    };
    let one = |text: String| vec![PageText::own(&text)];
    let as_set = || vec![PageText::own("default")];
    let event_types = match spec.event_types.clone() {
        Some(names) => Some(visible_event_types::only_visible(store, context, names).await?),
        None => None,
    };
    let header = |(name, value): (&String, &String)| {
        let value = if masked_header(name) { MASK } else { value };
        PageText::Foreign(Line::new(&format!("{name}: {value}")))
    };
    let mut settings = vec![
        SettingRow { name: "Event types", values: list(event_types.as_ref()) },
        SettingRow { name: "Channels", values: list(spec.channels.as_ref()) },
        SettingRow { name: "Limit", values: one(spec.throttle_rate.map_or("none".into(), |rate| format!("{rate}/s"))) },
        SettingRow {
            name: "Timeout",
            values: spec.timeout.map_or_else(as_set, |span| one(format!("{} s", span.as_secs()))),
        },
        SettingRow {
            name: "Retry schedule",
            values: spec.retry_schedule.as_ref().map_or_else(as_set, |schedule| one(in_words(schedule))),
        },
        SettingRow {
            name: "Ordering",
            values: one(
                if spec.ordered { "one at a time, in order of acceptance" } else { "not guaranteed" }.to_owned()
            ),
        },
        SettingRow { name: "Signature type", values: one(spec.signature_type.word().to_owned()) },
    ];
    if !spec.headers.is_empty() {
        settings.push(SettingRow { name: "Headers", values: spec.headers.iter().map(header).collect() });
    }
    Ok(settings)
}
