//! The page of a polling endpoint: consumers, their lag, and code to fetch events.

use actix_web::http::StatusCode;
use askama::Template;

use crate::dashboard::components::format::{Block, Line, UrlQuery, count_up_to};
use crate::dashboard::components::page_text::PageText;
use crate::dashboard::components::widgets::{Badge, Id, RelativeTime};
use crate::dashboard::endpoints::polling::fetch_snippets;
use crate::dashboard::endpoints::polling::fetch_snippets::FetchSnippet;
use crate::dashboard::endpoints::polling::{filter_of, name_of, named, path_of};
use crate::dashboard::http::current_user::AppContext;
use crate::dashboard::http::handler_input::{PageInput, PageResult};
use crate::dashboard::http::layout::{PageLayout, answer};
use crate::domain::access::portal::Capability;
use crate::store::feed::feed_page::MAX_LAG;

/// A consumer with a stored position.
struct ConsumerRow {
    name: Line,
    /// The consumer leases and commits messages; otherwise it polls with iterators.
    leased: bool,
    /// The end of its lease.
    held: Option<RelativeTime>,
    /// The time of its position.
    position: RelativeTime,
    /// The number of the application's messages after the position, before filtering.
    behind: String,
    polled: RelativeTime,
    /// Its silence was reported.
    silent: bool,
}

#[derive(Template)]
#[template(path = "polling_endpoint.html")]
struct ShowPage {
    layout: PageLayout,
    path: String,
    name: Line,
    id: Id,
    state: Badge,
    disabled: bool,
    filter: Vec<PageText>,
    created: RelativeTime,
    readers: Vec<ConsumerRow>,
    /// The last characters and expiry of the newest token.
    token: Option<(String, Option<RelativeTime>)>,
    manages: bool,
    rotates: bool,
    snippets: Vec<(&'static FetchSnippet, String)>,
    chosen: &'static str,
    code: Block,
}

/// `GET {base}/polling/{poller}`.
pub async fn show(PageInput { state, request, user: context }: PageInput<AppContext>) -> PageResult {
    let (store, tenant, now) = (&state.store, context.tenant(), state.clock.now());
    let endpoint = named(store, &request, &context).await?;
    let mut readers = Vec::new();
    for consumer in store.consumers(&tenant, &endpoint).await? {
        let behind = store.feed_lag(&tenant, context.app.id, consumer.iterator.position, now).await?;
        let held = consumer.leased_until.filter(|until| *until > now);
        readers.push(ConsumerRow {
            name: Line::new(&consumer.name),
            leased: consumer.leased_until.is_some(),
            held: held.map(|until| RelativeTime::new(until, now)),
            position: RelativeTime::new(consumer.iterator.position.time(), now),
            behind: count_up_to(behind, MAX_LAG),
            polled: RelativeTime::new(consumer.polled_at, now),
            silent: consumer.silent,
        });
    }
    let token = store.polling_token(&tenant, &endpoint).await?;
    let (query, path) = (UrlQuery::of(&request), path_of(&context, &endpoint));
    let chosen = fetch_snippets::of(query.get("code"));
    let url = fetch_snippets::url(&state.api_url, &context.app, &endpoint);
    let page = ShowPage {
        layout: crate::dashboard::endpoints::polling::layout(&context).with_notice(query.get("notice")),
        name: Line::new(&name_of(&endpoint)),
        id: Id::new(endpoint.id),
        state: if endpoint.spec.disabled { Badge::Disabled } else { Badge::Enabled },
        disabled: endpoint.spec.disabled,
        filter: filter_of(&endpoint),
        created: RelativeTime::new(endpoint.created_at, now),
        readers,
        token: token.map(|token| (token.censored(), token.expires_at.map(|at| RelativeTime::new(at, now)))),
        manages: context.can(Capability::ManageEndpoint),
        rotates: context.can_any(Capability::ROTATE_SECRET),
        snippets: fetch_snippets::ALL.iter().map(|one| (one, format!("{path}?code={}#fetch", one.word))).collect(),
        chosen: chosen.word,
        code: Block::new(chosen.code(&url).as_bytes()),
        path,
    };
    answer(StatusCode::OK, &page)
}
