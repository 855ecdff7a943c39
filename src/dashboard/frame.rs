//! What surrounds a page: the head, the navigation, the way out, and the notice after something was done.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::ContentType;
use askama::Template;

use super::assets;
use super::error::PageError;
use super::session::Signed;
use crate::domain::Time;
use crate::domain::time::Clock;

/// Which entry of the navigation is the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Here {
    Overview,
    Retrying,
    Dead,
    Outbox,
    Elsewhere,
}

/// What was just done; a word in the URL, never a text from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    Resent,
    NotResent,
}

impl Notice {
    /// The word in the URL.
    pub fn word(self) -> &'static str {
        match self {
            Notice::Resent => "resent",
            Notice::NotResent => "not-resent",
        }
    }

    fn from_word(word: &str) -> Option<Notice> {
        [Notice::Resent, Notice::NotResent].into_iter().find(|notice| notice.word() == word)
    }
}

/// An entry of the navigation.
pub struct Entry {
    pub name: &'static str,
    pub path: &'static str,
    pub current: bool,
}

/// What a page's template finds under `frame`.
pub struct Frame {
    /// The organization; `None`: nobody is signed in.
    pub org: Option<String>,
    /// What each form carries.
    pub csrf: String,
    pub notice: Option<Notice>,
    here: Here,
}

impl Frame {
    /// Around a page for whoever is signed in.
    pub fn of(signed: &Signed, here: Here) -> Frame {
        Frame { org: Some(signed.org.to_string()), csrf: signed.csrf.clone(), notice: None, here }
    }

    /// Around a page for anybody.
    pub fn bare() -> Frame {
        Frame { org: None, csrf: String::new(), notice: None, here: Here::Elsewhere }
    }

    /// With the token that its forms carry.
    pub fn with_token(mut self, csrf: String) -> Frame {
        self.csrf = csrf;
        self
    }

    /// With the notice that the URL names, if it does.
    pub fn noting(mut self, word: Option<&str>) -> Frame {
        self.notice = word.and_then(Notice::from_word);
        self
    }

    /// When the page was made: what the script sets its clock by.
    pub fn now(&self) -> Time {
        Clock.now()
    }

    /// The path of a static file.
    pub fn asset(&self, name: &str) -> &'static str {
        assets::url(name)
    }

    /// Where one can go.
    pub fn entries(&self) -> Vec<Entry> {
        let entry = |name, path, here| Entry { name, path, current: self.here == here };
        vec![
            entry("Overview", "/", Here::Overview),
            entry("Retrying", "/deliveries?state=retrying", Here::Retrying),
            entry("Dead", "/deliveries?state=dead", Here::Dead),
            entry("Outbox", "/outbox", Here::Outbox),
        ]
    }
}

/// The answer that a page makes.
pub fn answer(status: StatusCode, page: &impl Template) -> Result<HttpResponse, PageError> {
    let html = page.render()?;
    Ok(HttpResponse::build(status).content_type(ContentType::html()).body(html))
}
