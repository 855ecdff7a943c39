//! The pages in a real browser: what axe-core finds on them, whether they fit a phone, what people do with and without JavaScript,
//! and that what others wrote stays text.
//!
//! * [`driver`] – Debian's Chromium by its chromedriver, which the suite starts.
//! * [`site`] – a world with people in it, and its pages: **the list comes from the table of routes**. [`story`] – a site with
//!   something for each part of a route.
//! * [`walk`] – the shortest way from a missing event to all of them sent again, counted in clicks and words.

#[path = "../support/mod.rs"]
mod support;

// Shared with the tests of the pages over HTTP; each uses a part of it.
#[allow(dead_code)]
#[path = "../dashboard/html.rs"]
mod html;
#[allow(dead_code)]
#[path = "../dashboard/world.rs"]
mod world;

mod access;
mod driver;
mod flows;
mod hostile;
mod screenshots;
mod site;
mod story;
mod walk;
