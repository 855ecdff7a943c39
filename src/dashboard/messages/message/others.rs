//! Endpoints without a delivery of a message: those disabled when it was accepted, and targets for a resend.

use std::collections::HashSet;

use crate::dashboard::components::format::Line;
use crate::dashboard::components::parts::{Address, When};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::viewer::Inside;
use crate::domain::access::portal::Capability;
use crate::domain::catalog::endpoint::EndpointSpec;
use crate::domain::deliveries::message::Message;
use crate::domain::{EndpointId, Time};
use crate::store::catalog::endpoint_list::{EndpointLine, LineFilter};
use crate::store::{Order, PageRequest, Store};

/// How many of an application's endpoints are considered, newest first.
const MOST: usize = 100;

/// A subscribed endpoint that was disabled when the message was accepted.
pub struct Unsent {
    pub address: Address,
    pub href: String,
    pub since: When,
}

/// An endpoint that the message can be resent to.
pub struct Target {
    pub id: EndpointId,
    pub name: Line,
}

/// The endpoints without a delivery.
#[derive(Default)]
pub struct Others {
    pub unsent: Vec<Unsent>,
    /// Empty unless the user may resend.
    pub targets: Vec<Target>,
}

impl Others {
    /// Finds the endpoints that are not in `sent`.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn of(
        store: &Store,
        inside: &Inside,
        message: &Message,
        sent: &HashSet<EndpointId>,
        now: Time,
    ) -> Result<Others, PageError> {
        let filter = LineFilter { app: Some(inside.app.id), ..LineFilter::default() };
        let first = PageRequest::first(MOST, Order::Descending);
        let lines = store.endpoint_lines(&inside.tenant(), &filter, &first).await?.data;
        let others: Vec<&EndpointLine> = lines.iter().filter(|line| !sent.contains(&line.endpoint.id)).collect();
        let unsent = others.iter().filter_map(|line| Unsent::new(line, inside, message, now)).collect();
        let may = inside.can(Capability::CreateAttempts) && message.payload.is_some();
        let target =
            |line: &&EndpointLine| Target { id: line.endpoint.id, name: Line::cut(&line.endpoint.spec.url, 80) };
        let enabled = others.iter().filter(|line| may && !line.endpoint.spec.disabled);
        Ok(Others { unsent, targets: enabled.map(target).collect() })
    }
}

impl Unsent {
    fn new(line: &EndpointLine, inside: &Inside, message: &Message, now: Time) -> Option<Unsent> {
        let endpoint = &line.endpoint;
        let enabled = EndpointSpec { disabled: false, ..endpoint.spec.clone() };
        let wants = enabled.wants(&message.event_type, &message.channels) && endpoint.created_at <= message.accepted_at;
        let since = line.disabled_at.filter(|at| wants && endpoint.spec.disabled && *at <= message.accepted_at)?;
        Some(Unsent {
            address: Address::new(&endpoint.spec.url),
            href: inside.place.endpoint(endpoint.id),
            since: When::new(since, now),
        })
    }
}
