//! The dashboard over HTTP, on both stores: who gets in, what the pages say, what their buttons do, and that nothing foreign runs or
//! breaks out of its place.

#[path = "../support/mod.rs"]
mod support;

mod access;
mod application_page;
mod bulk;
mod catalog;
mod development;
mod endpoint_pages;
mod everywhere;
mod form_once;
mod hostile;
mod world;

mod find;
mod html;
mod languages;
mod limits;
mod lists;
mod messages;
mod numbers;
mod oidc;
mod operator_sessions;
mod order;
mod organizations;
mod outbox;
mod pages;
mod passwords;
mod payload_search;
mod people;
mod polling;
mod portal;
mod preview;
mod roles;
mod second_factor;
mod sign_in;
mod tail;
mod templates;
mod things;
