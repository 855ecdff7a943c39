//! Building blocks of the pages: forms, filters, tables, charts and text formatting.
//!
//! * [`form`] – forms, with their [`form_errors`]. [`picker`] – selects for an application and an endpoint.
//!   [`time_input`] – times as typed.
//! * [`filters`] – filters of a list. [`pagination`] – pages of a list. [`filtered_list`] – a list with both. [`range`]
//!   – time range of a page.
//! * [`format`] – outside text, counts, durations. [`page_text`] – texts of the page and of users. [`widgets`] –
//!   states, times, ids, addresses. [`payload`] – pretty-printed JSON.
//! * [`export`] – a list as a file. [`list_tools`] – saved views and exports of a list.
//! * [`chart`] – attempts and response times as SVG. [`failure_hints`] – advice on failed attempts.
//!
//! Invariants:
//!
//! * Nothing here handles a request or changes data.
//! * Components render without scripts, and identically on the dashboard and in the portal.
//! * A state is always a word, a shape and a color ([`Badge`](widgets::Badge)), never a color alone.

pub(in crate::dashboard) mod chart;
pub(in crate::dashboard) mod export;
pub(in crate::dashboard) mod failure_hints;
pub(in crate::dashboard) mod filtered_list;
pub(in crate::dashboard) mod filters;
pub(in crate::dashboard) mod form;
pub(in crate::dashboard) mod form_errors;
pub(in crate::dashboard) mod format;
pub(in crate::dashboard) mod list_tools;
pub(in crate::dashboard) mod page_text;
pub(in crate::dashboard) mod pagination;
pub(in crate::dashboard) mod payload;
pub(in crate::dashboard) mod picker;
pub(in crate::dashboard) mod range;
pub(in crate::dashboard) mod time_input;
pub(in crate::dashboard) mod widgets;
