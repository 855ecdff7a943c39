//! The stored form of a background task: its request and its progress.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::deliveries::background::TaskScope;
use crate::domain::deliveries::delivery::DeliveryStatus;
use crate::domain::{AppId, EndpointId, MessageId, Time, TimeRange};
use crate::store::StoreError;
use crate::store::jobs::background::{BackgroundSpec, ExpectedCount};
use crate::store::jobs::endpoint_cursor::TaskPosition;
use crate::store::jobs::list_resend::ListResendData;
use crate::store::query::endpoint_messages::EndpointMessageFilter;
use crate::store::query::topic_filter::TopicFilter;

/// The column `data`: request and progress, as JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::store) struct TaskData {
    /// The endpoint's id; empty for a wider scope.
    endpoint: String,
    pub by: String,
    pub total: Option<ExpectedCount>,
    since: i64,
    until: i64,
    event_types: Vec<String>,
    channel: Option<String>,
    tag: Option<String>,
    standings: Vec<String>,
    failing: bool,
    status_class: Option<i32>,
    pub listed: Option<ListResendData>,
    /// Progress of a wider scope: the ids of the current application and endpoint.
    at: Option<(String, String)>,
    /// The id of the last scanned message.
    pub cursor: Option<String>,
    /// A reconciliation ends at the last id that the receiver listed.
    pub bounded: bool,
    /// The receiver sent a digest of its ids.
    pub digest: bool,
    pub looked: i64,
    pub sent: i64,
    pub reason: Option<String>,
}

impl TaskData {
    pub fn new(spec: &BackgroundSpec) -> TaskData {
        let filter = spec.selection.messages().cloned().unwrap_or_default();
        TaskData {
            endpoint: spec.scope.endpoint().map(|id| id.to_string()).unwrap_or_default(),
            by: spec.by.clone(),
            total: spec.total,
            since: filter.accepted.since.micros(),
            until: filter.accepted.until.micros(),
            event_types: filter.topics.event_types,
            channel: filter.topics.channel,
            tag: filter.topics.tag,
            standings: filter.standings.iter().map(|standing| standing.word().to_owned()).collect(),
            failing: filter.failing == Some(true),
            status_class: filter.status_class,
            listed: spec.selection.listed().map(ListResendData::new),
            ..TaskData::default()
        }
    }

    /// The scope of the task; `app` is the task's application.
    pub fn scope(&self, app: Option<AppId>) -> Result<TaskScope, StoreError> {
        Ok(match app {
            None => TaskScope::Organization,
            Some(app) if self.endpoint.is_empty() => TaskScope::Application(app),
            Some(app) => TaskScope::Endpoint(app, parse_id(&self.endpoint)?),
        })
    }

    pub fn filter(&self) -> EndpointMessageFilter {
        EndpointMessageFilter {
            accepted: TimeRange { since: Time::from_micros(self.since), until: Time::from_micros(self.until) },
            topics: TopicFilter {
                event_types: self.event_types.clone(),
                channel: self.channel.clone(),
                tag: self.tag.clone(),
            },
            standings: self.standings.iter().filter_map(|word| DeliveryStatus::from_word(word)).collect(),
            failing: self.failing.then_some(true),
            status_class: self.status_class,
        }
    }

    /// The last scanned message.
    pub fn last_message(&self) -> Result<Option<MessageId>, StoreError> {
        self.cursor.as_deref().map(parse_id).transpose()
    }

    /// The position to continue from; `None`: not started.
    pub fn position(&self, scope: TaskScope) -> Result<Option<TaskPosition>, StoreError> {
        let message = self.last_message()?.map_or(Uuid::nil(), |id| id.0);
        Ok(match (scope, &self.at) {
            (TaskScope::Endpoint(app, endpoint), _) => Some(TaskPosition { app, endpoint, message }),
            (_, None) => None,
            (_, Some((app, endpoint))) => {
                Some(TaskPosition { app: parse_id(app)?, endpoint: parse_id(endpoint)?, message })
            }
        })
    }

    /// Sets the position to continue from.
    pub fn set_position(&mut self, position: TaskPosition) {
        self.at = Some((position.app.to_string(), EndpointId::to_string(&position.endpoint)));
        self.cursor = (!position.message.is_nil()).then(|| MessageId(position.message).to_string());
    }
}

fn parse_id<T: std::str::FromStr>(id: &str) -> Result<T, StoreError> {
    id.parse().map_err(|_| StoreError::Damaged("background task with an invalid position".into()))
}
