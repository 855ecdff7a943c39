//! A text that is either the page's own or someone's. The portal [translates](crate::dashboard::portal::language) the
//! first and leaves the second as it is.

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
