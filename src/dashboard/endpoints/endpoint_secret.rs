//! Reveals and rotates an endpoint's secret. A reveal is recorded in the audit log before the secret is shown; after a
//! rotation, the old secret stays valid for a grace period.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use crate::dashboard::DashboardState;
use crate::dashboard::components::form::{Field, Form, FormPage};
use crate::dashboard::components::format::Line;
use crate::dashboard::components::parts::Address;
use crate::dashboard::components::refused::refused;
use crate::dashboard::endpoints::endpoint_actions::{named, of_endpoint};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::{Frame, answer};
use crate::dashboard::http::notice::Notice;
use crate::dashboard::http::posted::{Posted, done};
use crate::dashboard::http::viewer::Inside;
use crate::domain::access::audit::act;
use crate::domain::access::portal::Capability;
use crate::domain::catalog::endpoint::Endpoint;
use crate::domain::signing::secret::{GRACE, GRACE_LIMIT, Secret, SignatureType};
use crate::domain::{Invalid, span};
use crate::store::access::audit::Deed;

#[derive(Template)]
#[template(path = "secret.html")]
struct SecretPage {
    frame: Frame,
    address: Address,
    secret: Line,
    /// Whether `secret` is a public key.
    public: bool,
    path: String,
}

/// `POST {place}/endpoints/{endpoint}/secret`.
pub async fn reveal(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
    _posted: Posted,
) -> Result<HttpResponse, PageError> {
    inside.need_any(Capability::SEE_SECRET)?;
    let (store, now) = (inside.store(&state.store), state.clock.now());
    let endpoint = named(&store, &request, &inside).await?;
    let thing = endpoint.id.to_string();
    let deed =
        Deed { org: &inside.org, app: Some(inside.app.id), act: act::SECRET_REVEALED, thing: &thing, detail: "" };
    store.note_look(deed, now).await?;
    let secret = store.endpoint_secret(&inside.tenant(), inside.app.id, endpoint.id).await?;
    let page = SecretPage {
        frame: of_endpoint(&inside, &endpoint),
        address: Address::new(&endpoint.spec.url),
        secret: Line::new(&secret.ok_or(PageError::NotFound)?.shown()),
        public: endpoint.spec.signature_type == SignatureType::Ed25519,
        path: inside.place.endpoint(endpoint.id),
    };
    answer(StatusCode::OK, &page)
}

fn form() -> Form {
    Form::new(vec![
        Field::text("key", "New secret", "")
            .help("whsec_… or whsk_…, matching the signature type. Leave empty to generate one."),
        Field::text("gracePeriod", "Keep the old secret valid for", &span::write(GRACE))
            .help("Gives receivers time to switch: 0s to 7d."),
    ])
}

fn page(inside: &Inside, endpoint: &Endpoint, form: Form) -> FormPage {
    let path = inside.place.endpoint(endpoint.id);
    FormPage {
        frame: of_endpoint(inside, endpoint),
        title: Line::new("Rotate secret"),
        lead: "Deliveries are signed with both secrets until the old one expires.",
        about: Line::new(&endpoint.spec.url),
        action: format!("{path}/rotate"),
        form,
        starts: Vec::new(),
        button: "Rotate secret",
        back: path,
    }
}

/// `GET {place}/endpoints/{endpoint}/rotate`.
pub async fn ask(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
) -> Result<HttpResponse, PageError> {
    inside.need_any(Capability::ROTATE_SECRET)?;
    let endpoint = named(&state.store, &request, &inside).await?;
    page(&inside, &endpoint, form()).answer()
}

/// `POST {place}/endpoints/{endpoint}/rotate`.
pub async fn rotate(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
    posted: Posted,
) -> Result<HttpResponse, PageError> {
    inside.need_any(Capability::ROTATE_SECRET)?;
    let (store, now) = (inside.store(&state.store), state.clock.now());
    let endpoint = named(&store, &request, &inside).await?;
    let again = |wrong: &[Invalid]| page(&inside, &endpoint, form().typed(&posted).blame(wrong)).answer();
    let (secret, grace) = match read(&posted, endpoint.spec.signature_type) {
        Ok(read) => read,
        Err(wrong) => return again(&wrong),
    };
    match store.rotate_secret(&inside.tenant(), inside.app.id, endpoint.id, &secret, grace, now).await {
        Ok(true) => Ok(done(&inside.place.endpoint(endpoint.id), Notice::Rotated)),
        Ok(false) => Err(PageError::NotFound),
        Err(error) => again(&refused(error, "key")?),
    }
}

fn read(posted: &Posted, kind: SignatureType) -> Result<(Secret, Duration), Vec<Invalid>> {
    let given = posted.given("key").map(|text| Secret::parse("key", text));
    let secret = match given {
        None => Ok(Secret::generate(kind)),
        Some(secret) => secret.and_then(|secret| secret.check_kind("key", kind).map(|()| secret)),
    };
    let refused = |reason: String| Invalid::new("gracePeriod", reason);
    let grace = match posted.given("gracePeriod").map(span::read) {
        None => Ok(GRACE),
        Some(Ok(grace)) if grace > GRACE_LIMIT => Err(refused(format!("must be 0s to {}", span::write(GRACE_LIMIT)))),
        Some(read) => read.map_err(|what| refused(format!("{what}; expected a span of time such as 24h"))),
    };
    match (secret, grace) {
        (Ok(secret), Ok(grace)) => Ok((secret, grace)),
        (secret, grace) => Err(secret.err().into_iter().chain(grace.err()).collect()),
    }
}
