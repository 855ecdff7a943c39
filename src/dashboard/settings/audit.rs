//! The audit log, newest first. URL parameters: `act`, `who`; `after` and `before` are cursors towards older and newer
//! entries.

use actix_web::http::StatusCode;
use askama::Template;

use crate::dashboard::components::format::{Line, UrlQuery};
use crate::dashboard::components::widgets::{Id, RelativeTime};
use crate::dashboard::http::app_paths::AppPaths;
use crate::dashboard::http::current_user::CurrentOperator;
use crate::dashboard::http::handler_input::{PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::domain::access::audit::{ACTIONS, ActorKind, action};
use crate::domain::url_query::with_query;
use crate::domain::{AuditId, EndpointId, MessageId, Time};
use crate::store::access::audit::{AuditEntry, AuditFilter};
use crate::store::{Order, PageRequest};

/// Entries per page.
const ROWS: usize = 50;

struct Row {
    when: RelativeTime,
    /// The kind of actor.
    kind: &'static str,
    who: Line,
    /// The log filtered by this actor.
    of_who: String,
    act: Line,
    loud: bool,
    target: AuditTarget,
    detail: Line,
}

/// The target of an action.
enum AuditTarget {
    Id(Id, Option<String>),
    Name(Line),
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    layout: PageLayout,
    rows: Vec<Row>,
    act: String,
    who: String,
    who_shown: Line,
    /// The log without one of the filters.
    without_act: String,
    without_who: String,
    newer: Option<String>,
    older: Option<String>,
    /// The search stopped before the page was full.
    stopped: bool,
    filtered: bool,
}

impl AuditPage {
    fn acts(&self) -> &'static [&'static str] {
        &ACTIONS
    }

    fn paged(&self) -> bool {
        self.newer.is_some()
    }
}

/// A path of the log.
fn path(act: &str, who: &str, more: Option<(&str, AuditId)>) -> String {
    let (name, id) = more.map_or_else(Default::default, |(name, id)| (name, id.to_string()));
    with_query("/audit", [("act", act), ("who", who), (name, &id)])
}

/// `GET /audit`.
pub async fn show(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    let (query, now) = (UrlQuery::of(&request), state.clock.now());
    let given = |name: &str| query.get(name).map(str::trim).filter(|text| !text.is_empty() && !text.contains('\0'));
    let filter = AuditFilter { act: given("act").map(str::to_owned), who: given("who").map(str::to_owned) };
    let cursor = |name: &str| query.get(name).and_then(|text| text.parse::<AuditId>().ok());
    let (after, before) = (cursor("after"), cursor("before"));
    let wanted = PageRequest {
        after: after.or(before),
        back: after.is_none() && before.is_some(),
        ..PageRequest::first(ROWS, Order::Descending)
    };
    let page = state.store.audit_log(&user.tenant(), &filter, &wanted).await?;
    let (act, who) = (filter.act.unwrap_or_default(), filter.who.unwrap_or_default());
    let ends = (page.data.first().map(|one| one.id), page.data.last().map(|one| one.id));
    let link = |name, id| path(&act, &who, Some((name, id)));
    let (newer, older) = match wanted.back {
        false => (
            ends.0.or(after).filter(|_| after.is_some()).map(|id| link("before", id)),
            page.stopped.or(ends.1).filter(|_| page.more).map(|id| link("after", id)),
        ),
        true => (
            page.stopped.or(ends.0).filter(|_| page.more).map(|id| link("before", id)),
            ends.1.or(before).map(|id| link("after", id)),
        ),
    };
    let page = AuditPage {
        layout: PageLayout::of(&user, NavItem::Audit),
        rows: page.data.iter().map(|entry| Row::new(entry, &act, now)).collect(),
        without_act: path("", &who, None),
        without_who: path(&act, "", None),
        who_shown: Line::new(&who),
        stopped: page.stopped.is_some(),
        filtered: !act.is_empty() || !who.is_empty(),
        act,
        who,
        newer,
        older,
    };
    answer(StatusCode::OK, &page)
}

impl Row {
    fn new(entry: &AuditEntry, act: &str, now: Time) -> Row {
        Row {
            when: RelativeTime::new(entry.at, now),
            kind: in_words(entry.actor.kind),
            who: Line::cut(&entry.actor.who, 120),
            of_who: path(act, &entry.actor.who, None),
            act: Line::new(&entry.act),
            loud: entry.act == action::SIGN_IN_FAILED,
            target: AuditTarget::of(entry),
            detail: Line::cut(&entry.detail, 200),
        }
    }
}

impl AuditTarget {
    /// Links to the target's page, if it has one. After a deletion, that page responds with 404.
    fn of(entry: &AuditEntry) -> AuditTarget {
        let target = entry.target.as_str();
        let paths = entry.app.map(AppPaths::of_application);
        let path = paths.and_then(|paths| {
            let app = entry.app.map(|app| app.to_string());
            if app.as_deref() == Some(target) {
                Some(paths.home().to_owned())
            } else if let Ok(endpoint) = target.parse::<EndpointId>() {
                Some(paths.endpoint(endpoint))
            } else {
                target.parse::<MessageId>().ok().map(|message| paths.message(message))
            }
        });
        let is_id = target.rsplit_once('_').is_some_and(|(_, digits)| digits.len() == 26) && target.is_ascii();
        match is_id {
            true => AuditTarget::Id(Id::new(target), path.filter(|_| entry.act != action::APPLICATION_DELETED)),
            false => AuditTarget::Name(Line::cut(target, 120)),
        }
    }
}

fn in_words(kind: ActorKind) -> &'static str {
    match kind {
        ActorKind::Operator => "operator",
        ActorKind::Link => "operator by link",
        ActorKind::Customer => "customer",
        ActorKind::Key => "API key",
        ActorKind::Token => "API token",
        ActorKind::Command => "command line",
        ActorKind::Engine => "automatic",
    }
}

#[cfg(test)]
mod tests {
    use crate::dashboard::settings::audit::*;
    use crate::domain::access::audit::Actor;
    use crate::domain::{AppId, AuditId};

    #[test]
    fn targets_with_a_page_are_linked() {
        let app = AppId::new(Time::ZERO);
        let entry = |target: String, within: bool| AuditEntry {
            id: AuditId::new(Time::ZERO),
            at: Time::ZERO,
            actor: Actor::new(ActorKind::Link, "x"),
            act: action::ENDPOINT_CHANGED.to_owned(),
            app: within.then_some(app),
            target,
            detail: String::new(),
        };
        let link = |entry: &AuditEntry| match AuditTarget::of(entry) {
            AuditTarget::Id(_, link) => link,
            AuditTarget::Name(_) => None,
        };
        let endpoint = EndpointId::new(Time::ZERO);
        assert_eq!(link(&entry(endpoint.to_string(), true)), Some(format!("/applications/{app}/endpoints/{endpoint}")));
        assert_eq!(link(&entry(app.to_string(), true)), Some(format!("/applications/{app}")));
        for (target, within) in [(endpoint.to_string(), false), ("key_x".into(), true), ("ä_ö".into(), true)] {
            assert_eq!(link(&entry(target, within)), None);
        }
    }

    #[test]
    fn paths_have_the_filters() {
        assert_eq!(path("", "", None), "/audit");
        assert_eq!(path("secret revealed", "a&b", None), "/audit?act=secret+revealed&who=a%26b");
    }
}
