//! What a form sends. [`Posted`] is had only by a form of the session that it comes with: no handler can forget to look.

use actix_web::dev::Payload;
use actix_web::http::header::LOCATION;
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use futures_util::future::LocalBoxFuture;

use crate::dashboard::http::error::PageError;
use crate::dashboard::http::notice::Notice;
use crate::dashboard::http::session::same;
use crate::dashboard::http::viewer::Viewer;

/// The fields of a form of the viewer's session, in the order in which the browser sent them.
#[derive(Debug)]
pub struct Posted(Vec<(String, String)>);

impl Posted {
    /// The value of a field as it was typed; empty if there is none.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
    }

    /// The value without the space around it; `None`: nothing was typed.
    pub fn given(&self, name: &str) -> Option<&str> {
        Some(self.get(name).trim()).filter(|value| !value.is_empty())
    }

    /// The values of all fields of that name.
    pub fn all<'p>(&'p self, name: &'p str) -> impl Iterator<Item = &'p str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a box was ticked, or a button of that name pressed.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }
}

impl FromRequest for Posted {
    type Error = PageError;
    type Future = LocalBoxFuture<'static, Result<Posted, PageError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let viewer = Viewer::from_request(request, payload);
        let form = web::Form::<Vec<(String, String)>>::from_request(request, payload);
        Box::pin(async move {
            let viewer = viewer.await?;
            let form = form.await.map_err(|_| PageError::BadRequest("The form could not be read, or is too long."))?;
            let posted = Posted(form.into_inner());
            if same(posted.get("csrf"), &viewer.csrf) { Ok(posted) } else { Err(PageError::WrongToken) }
        })
    }
}

/// The answer to a form that was done: the page to go on with, and what to say there.
pub fn done(path: &str, notice: Notice) -> HttpResponse {
    let sign = if path.contains('?') { '&' } else { '?' };
    HttpResponse::SeeOther().insert_header((LOCATION, format!("{path}{sign}notice={}", notice.word()))).finish()
}

/// What a form names as the page to go back to, if it is a path of this very site.
pub fn own_path(text: &str) -> Option<&str> {
    let own =
        text.starts_with('/') && !text.starts_with("//") && text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    own.then_some(text)
}

#[cfg(test)]
mod tests {
    use crate::dashboard::http::posted::*;

    #[test]
    fn one_is_sent_back_to_this_site_and_nowhere_else() {
        assert_eq!(own_path("/deliveries?status=dead"), Some("/deliveries?status=dead"));
        for bad in
            ["", "//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nset-cookie: b", "javascript:x"]
        {
            assert_eq!(own_path(bad), None, "{bad:?}");
        }
    }
}
