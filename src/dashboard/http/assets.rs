//! Static files, compiled into the binary. Each URL contains a hash of the content, so browsers cache it forever.

use std::sync::LazyLock;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpResponse, web};
use sha2::{Digest, Sha256};

use crate::dashboard::http::error::PageError;

struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    url: LazyLock<String>,
}

macro_rules! asset {
    ($name:literal, $kind:literal) => {
        Asset {
            name: $name,
            kind: $kind,
            bytes: include_bytes!(concat!("../../../static/", $name)),
            url: LazyLock::new(|| url_of($name, include_bytes!(concat!("../../../static/", $name)))),
        }
    };
}

static ASSETS: [Asset; 26] = [
    asset!("tokens.css", "text/css; charset=utf-8"),
    asset!("base.css", "text/css; charset=utf-8"),
    asset!("app.css", "text/css; charset=utf-8"),
    asset!("chart.css", "text/css; charset=utf-8"),
    asset!("summary.css", "text/css; charset=utf-8"),
    asset!("actions.css", "text/css; charset=utf-8"),
    asset!("tail.css", "text/css; charset=utf-8"),
    asset!("list.css", "text/css; charset=utf-8"),
    asset!("message.css", "text/css; charset=utf-8"),
    asset!("attempts.css", "text/css; charset=utf-8"),
    asset!("bulk.css", "text/css; charset=utf-8"),
    asset!("app.js", "text/javascript; charset=utf-8"),
    asset!("refresh.js", "text/javascript; charset=utf-8"),
    asset!("list.js", "text/javascript; charset=utf-8"),
    asset!("chart.js", "text/javascript; charset=utf-8"),
    asset!("tail.js", "text/javascript; charset=utf-8"),
    asset!("single_card.css", "text/css; charset=utf-8"),
    asset!("form.css", "text/css; charset=utf-8"),
    asset!("details.css", "text/css; charset=utf-8"),
    asset!("resources.css", "text/css; charset=utf-8"),
    asset!("overview.css", "text/css; charset=utf-8"),
    asset!("outbox.css", "text/css; charset=utf-8"),
    asset!("access_forms.css", "text/css; charset=utf-8"),
    asset!("access_tables.css", "text/css; charset=utf-8"),
    asset!("second_factor.css", "text/css; charset=utf-8"),
    asset!("favicon.svg", "image/svg+xml"),
];

fn url_of(name: &str, bytes: &[u8]) -> String {
    format!("/static/{}/{name}", &hex::encode(Sha256::digest(bytes))[..16])
}

/// The path of the current version of a file; empty for an unknown name.
pub fn url(name: &str) -> &'static str {
    ASSETS.iter().find(|asset| asset.name == name).map_or("", |asset| asset.url.as_str())
}

/// `GET /static/{hash}/{name}`. An outdated hash gets the current file with `no-cache`.
pub async fn serve(path: web::Path<(String, String)>) -> Result<HttpResponse, PageError> {
    let (_, name) = path.as_ref();
    let asset = ASSETS.iter().find(|asset| asset.name == name).ok_or(PageError::NotFound)?;
    let current = *asset.url == format!("/static/{}/{name}", path.0);
    let cache = if current { "public, max-age=31536000, immutable" } else { "no-cache" };
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, asset.kind))
        .insert_header((CACHE_CONTROL, cache))
        .body(asset.bytes))
}
