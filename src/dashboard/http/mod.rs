//! HTTP concerns shared by all pages: the signed-in user, their permissions, and the frame of every response.
//!
//! * [`middleware`] – Host and Origin checks, rate limits, security headers, error pages. [`route_access`] – the least
//!   role of each page, checked before its handler.
//! * [`current_user`] – extractors for the signed-in user: [`CurrentUser`](current_user::CurrentUser),
//!   [`CurrentOperator`](current_user::CurrentOperator), [`AppContext`](current_user::AppContext). [`list_user`] – one
//!   of the latter two, for pages that exist across applications and within one.
//! * [`session`] – cookies and CSRF tokens. [`verified_form`] – a form whose CSRF token was checked. [`handler_input`]
//!   – the input of page handlers. [`form_once`] – a form posted twice acts once.
//! * [`layout`] – header, navigation, the tabs of an application, and [`flash`] notice. [`app_paths`] – links to the
//!   pages of one application.
//! * [`error`] – error pages. [`preferences`] – theme and time zone. [`assets`] – static files.
//!
//! Invariants:
//!
//! * Every page for operators is in the table of [`route_access`]; other paths get 404.
//! * No handler parses a form without checking its CSRF token: [`VerifiedForm`](verified_form::VerifiedForm) is the
//!   only way to read one after sign-in.
//! * A request below `/portal` never sees an operator's session, and no other request sees a portal session.
//! * Notices come from a fixed list; text in a URL is never shown as a notice.

pub(in crate::dashboard) mod app_paths;
pub(in crate::dashboard) mod assets;
pub(in crate::dashboard) mod current_user;
pub(in crate::dashboard) mod error;
pub(in crate::dashboard) mod flash;
pub(in crate::dashboard) mod form_once;
pub(in crate::dashboard) mod handler_input;
pub(in crate::dashboard) mod layout;
pub(in crate::dashboard) mod list_user;
pub(in crate::dashboard) mod middleware;
pub(in crate::dashboard) mod preferences;
pub(in crate::dashboard) mod route_access;
pub(in crate::dashboard) mod session;
pub(in crate::dashboard) mod verified_form;
