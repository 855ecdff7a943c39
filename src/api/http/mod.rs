//! The HTTP layer of the REST API: everything that handlers of all resources need. Come here to change how requests are
//! routed, authorized and parsed, how repeated requests are detected, or how responses look.
//!
//! * [`route_table`]: a route, its methods, its request metrics.
//! * [`request`]: [`ApiCall`](request::ApiCall), a request whose caller is authenticated and allowed to make it.
//! * [`body`], [`query`]: JSON bodies and query strings, read field by field; list pages.
//! * [`idempotency`]: `idempotency-key` on POST requests.
//! * [`errors`]: [`ApiError`](errors::ApiError), the JSON of every 4xx and 5xx. [`field_error`]: one invalid value.
//! * [`cors`]: browsers. [`probes`]: `/healthz`, `/readyz` and `/metrics`, outside of the API and without a token.
//!
//! # Invariants
//!
//! * Nothing here knows a resource: no application, endpoint or message beyond looking up the one named in the path.
//! * Every 4xx and 5xx has a JSON body. An internal error never shows its cause.
//! * A rejected body reports all invalid values at once.
//! * No handler runs before its caller is authorized, except those listed in the document as needing no token.

pub(in crate::api) mod body;
pub(in crate::api) mod cors;
pub(in crate::api) mod errors;
pub(in crate::api) mod field_error;
pub(in crate::api) mod idempotency;
pub mod probes;
pub(in crate::api) mod query;
pub(in crate::api) mod request;
pub(in crate::api) mod route_table;
