//! Endpoints without a delivery of a message: those disabled when it was accepted, and targets for a resend.

use std::collections::HashSet;

use crate::dashboard::components::format::Line;
use crate::dashboard::components::widgets::{Address, RelativeTime};
use crate::dashboard::http::current_user::AppContext;
use crate::dashboard::http::error::PageError;
use crate::domain::access::portal::Capability;
use crate::domain::catalog::endpoint::EndpointSpec;
use crate::domain::deliveries::message::Message;
use crate::domain::{EndpointId, Time};
use crate::store::catalog::endpoint_list::{EndpointListFilter, ListedEndpoint};
use crate::store::{Order, PageRequest, Store};

/// Maximum number of an application's endpoints that are considered, newest first.
const MOST: usize = 100;

/// A subscribed endpoint that was disabled when the message was accepted.
pub struct SkippedEndpoint {
    pub address: Address,
    pub href: String,
    pub since: RelativeTime,
}

/// An endpoint that the message can be resent to.
pub struct ResendTarget {
    pub id: EndpointId,
    pub name: Line,
}

/// The endpoints without a delivery.
#[derive(Default)]
pub struct OtherEndpoints {
    pub unsent: Vec<SkippedEndpoint>,
    /// Empty unless the user may resend.
    pub targets: Vec<ResendTarget>,
}

impl OtherEndpoints {
    /// Finds the endpoints that are not in `sent`.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn of(
        store: &Store,
        context: &AppContext,
        message: &Message,
        sent: &HashSet<EndpointId>,
        now: Time,
    ) -> Result<OtherEndpoints, PageError> {
        let filter = EndpointListFilter { app: Some(context.app.id), ..EndpointListFilter::default() };
        let first = PageRequest::first(MOST, Order::Descending);
        let lines = store.list_endpoints(&context.tenant(), &filter, &first).await?.data;
        let others: Vec<&ListedEndpoint> = lines.iter().filter(|line| !sent.contains(&line.endpoint.id)).collect();
        let unsent = others.iter().filter_map(|line| SkippedEndpoint::new(line, context, message, now)).collect();
        let may = context.can(Capability::CreateAttempts) && message.payload.is_some();
        let target = |line: &&ListedEndpoint| ResendTarget {
            id: line.endpoint.id,
            name: Line::cut(&line.endpoint.spec.url, 80),
        };
        let enabled = others.iter().filter(|line| may && !line.endpoint.spec.disabled);
        Ok(OtherEndpoints { unsent, targets: enabled.map(target).collect() })
    }
}

impl SkippedEndpoint {
    fn new(line: &ListedEndpoint, context: &AppContext, message: &Message, now: Time) -> Option<SkippedEndpoint> {
        let endpoint = &line.endpoint;
        let enabled = EndpointSpec { disabled: false, ..endpoint.spec.clone() };
        let wants = enabled.wants(&message.event_type, &message.channels) && endpoint.created_at <= message.accepted_at;
        let since = line.disabled_at.filter(|at| wants && endpoint.spec.disabled && *at <= message.accepted_at)?;
        Some(SkippedEndpoint {
            address: Address::new(&endpoint.spec.url),
            href: context.paths.endpoint(endpoint.id),
            since: RelativeTime::new(since, now),
        })
    }
}
