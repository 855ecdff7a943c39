//! The pages in a real browser: what axe-core finds on them, whether they fit a phone, what people do with and without JavaScript,
//! and that what others wrote stays text.
//!
//! * [`driver`] – Debian's Chromium by its chromedriver, which the suite starts.
//! * [`story`] – a world with something of everything in it, and the list of its pages. **A new page goes into that list**, and is
//!   looked at by all that follows.

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
mod story;
