//! The page of a polling endpoint: consumers, their lag, and code to fetch events.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use crate::dashboard::DashboardState;
use crate::dashboard::components::format::{Block, Line, Query, count_up_to};
use crate::dashboard::components::parts::{Badge, Id, When};
use crate::dashboard::endpoints::polling::snippets;
use crate::dashboard::endpoints::polling::snippets::Snippet;
use crate::dashboard::endpoints::polling::{filter_of, name_of, named, path_of};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::{Frame, answer};
use crate::dashboard::http::viewer::Inside;
use crate::domain::access::portal::Capability;
use crate::store::feed::read::BEHIND;

/// A consumer with a stored position.
struct Reader {
    name: Line,
    /// It leases and commits; otherwise it polls with iterators.
    leased: bool,
    /// The end of its lease.
    held: Option<When>,
    /// The time of its position.
    position: When,
    /// How many of the application's messages are after the position, before filtering.
    behind: String,
    polled: When,
}

#[derive(Template)]
#[template(path = "polling_endpoint.html")]
struct ShowPage {
    frame: Frame,
    path: String,
    name: Line,
    id: Id,
    state: Badge,
    disabled: bool,
    filter: Line,
    created: When,
    readers: Vec<Reader>,
    /// The last characters and expiry of the newest token.
    token: Option<(String, Option<When>)>,
    manages: bool,
    rotates: bool,
    snippets: Vec<(&'static Snippet, String)>,
    chosen: &'static str,
    code: Block,
}

/// `GET {place}/polling/{poller}`.
pub async fn show(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
) -> Result<HttpResponse, PageError> {
    let (store, tenant, now) = (&state.store, inside.tenant(), state.clock.now());
    let endpoint = named(store, &request, &inside).await?;
    let mut readers = Vec::new();
    for consumer in store.consumers(&tenant, &endpoint).await? {
        let behind = store.feed_behind(&tenant, inside.app.id, consumer.iterator.position, now).await?;
        let held = consumer.leased_until.filter(|until| *until > now);
        readers.push(Reader {
            name: Line::new(&consumer.name),
            leased: consumer.leased_until.is_some(),
            held: held.map(|until| When::new(until, now)),
            position: When::new(consumer.iterator.position.time(), now),
            behind: count_up_to(behind, BEHIND),
            polled: When::new(consumer.polled_at, now),
        });
    }
    let token = store.polling_token(&tenant, &endpoint).await?;
    let (query, path) = (Query::of(&request), path_of(&inside, &endpoint));
    let chosen = snippets::of(query.get("code"));
    let url = snippets::url(&state.api_url, &inside.app, &endpoint);
    let page = ShowPage {
        frame: crate::dashboard::endpoints::polling::frame(&inside).noting(query.get("notice")),
        name: Line::new(&name_of(&endpoint)),
        id: Id::new(endpoint.id),
        state: if endpoint.spec.disabled { Badge::Disabled } else { Badge::Enabled },
        disabled: endpoint.spec.disabled,
        filter: Line::new(&filter_of(&endpoint)),
        created: When::new(endpoint.created_at, now),
        readers,
        token: token.map(|token| (token.censored(), token.expires_at.map(|at| When::new(at, now)))),
        manages: inside.can(Capability::ManageEndpoint),
        rotates: inside.can_any(Capability::ROTATE_SECRET),
        snippets: snippets::ALL.iter().map(|one| (one, format!("{path}?code={}#fetch", one.word))).collect(),
        chosen: chosen.word,
        code: Block::new(chosen.code(&url).as_bytes()),
        path,
    };
    answer(StatusCode::OK, &page)
}
