//! A text of the page itself, or one that a user wrote. The portal [translates](crate::dashboard::portal::language) the
//! former and leaves the latter unchanged.

use askama::Template;
use askama::filters::HtmlSafe;

use crate::dashboard::components::format::Line;

#[derive(Clone, Debug, Template)]
#[template(path = "parts/page_text.html")]
pub enum PageText {
    /// A text of the page.
    Own(Line),
    /// A name or a value that customers or the team wrote.
    Foreign(Line),
}

impl HtmlSafe for PageText {}

impl PageText {
    pub fn own(text: &str) -> PageText {
        PageText::Own(Line::new(text))
    }

    /// Truncates to `most` characters.
    pub fn foreign(text: &str, most: usize) -> PageText {
        PageText::Foreign(Line::cut(text, most))
    }
}
