//! The common part of the lists of messages and of deliveries: the filters, one page of rows, the tools, and the links
//! to other pages.
//!
//! * [`ListRequest`] – the parsed filters. [`FilteredList`] – the template's view of one page.

use actix_web::http::StatusCode;

use crate::dashboard::DashboardState;
use crate::dashboard::components::filters;
use crate::dashboard::components::filters::{FilterForm, FilterParams, Filters};
use crate::dashboard::components::format::UrlQuery;
use crate::dashboard::components::list_tools::ListTools;
use crate::dashboard::components::pagination::Pagination;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::list_user::ListUser;
use crate::domain::access::saved_view::ViewList;
use crate::domain::{EndpointId, MessageId, Time};
use crate::store::query::delivery_list::DeliveryKey;
use crate::store::{Scanned, StoreError};

/// The position of a row in a list, as in the links to other pages.
pub trait ListCursor: Copy {
    /// Parses a cursor. An invalid one starts at the first page.
    fn parse(text: &str) -> Option<Self>;

    fn text(self) -> String;

    /// The time at which the message was accepted.
    fn time(self) -> Time;
}

impl ListCursor for MessageId {
    fn parse(text: &str) -> Option<MessageId> {
        text.parse().ok()
    }

    fn text(self) -> String {
        self.to_string()
    }

    fn time(self) -> Time {
        MessageId::time(self)
    }
}

impl ListCursor for DeliveryKey {
    fn parse(text: &str) -> Option<DeliveryKey> {
        let (message, endpoint) = text.split_once('.')?;
        Some((message.parse().ok()?, endpoint.parse::<EndpointId>().ok()?))
    }

    fn text(self) -> String {
        format!("{}.{}", self.0, self.1)
    }

    fn time(self) -> Time {
        self.0.time()
    }
}

/// A request for a page of a list.
pub struct ListRequest<C> {
    pub params: FilterParams,
    pub filters: Filters,
    form: FilterForm,
    tools: ListTools,
    /// The last row of the previous page.
    pub after: Option<C>,
    pub now: Time,
}

impl<C: ListCursor> ListRequest<C> {
    /// Reads the filters of the list; `names` are their URL parameters.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn read(
        state: &DashboardState,
        query: &UrlQuery,
        user: &ListUser,
        (list, names): (ViewList, &[&'static str]),
    ) -> Result<ListRequest<C>, PageError> {
        let (store, context, now) = (&state.store, user.context(), state.clock.now());
        let (params, filters, form) = filters::read(store, user, context, (list.word(), names), query, now).await?;
        let tools = ListTools::of(store, user, list, context.is_none(), &params).await?;
        let after = query.get("after").and_then(C::parse);
        Ok(ListRequest { params, filters, form, tools, after, now })
    }

    /// Reads the page by `read`, and makes a row of each item. Nothing is read if a filter is invalid.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn list<T, R>(
        self,
        user: &ListUser,
        read: impl AsyncFnOnce(&Filters, Option<C>) -> Result<Scanned<T, C>, StoreError>,
        key: impl Fn(&T) -> C,
        row: impl Fn(&T) -> R,
    ) -> Result<FilteredList<R>, PageError> {
        let good = self.filters.good();
        let (mut rows, mut next, mut stopped) = (Vec::new(), None, None);
        if good {
            let found = read(&self.filters, self.after).await?;
            next = found.data.last().filter(|_| found.more).map(|last| key(last).text());
            stopped = found.stopped.map(|key| (key.text(), key.time()));
            rows = found.data.iter().map(row).collect();
        }
        Ok(FilteredList {
            in_application: user.context().is_some(),
            good,
            note: self.filters.note,
            rows,
            pagination: Pagination::of(&self.params, self.after.is_some(), next, stopped, self.now),
            form: self.form,
            tools: self.tools,
        })
    }
}

/// One page of a list.
pub struct FilteredList<R> {
    /// The list covers one application.
    pub in_application: bool,
    pub form: FilterForm,
    /// Every filter is valid.
    pub good: bool,
    pub note: Option<&'static str>,
    pub rows: Vec<R>,
    pub pagination: Pagination,
    pub tools: ListTools,
}

impl<R> FilteredList<R> {
    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        if self.good { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY }
    }
}
