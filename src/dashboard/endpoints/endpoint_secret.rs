//! Reveals and rotates an endpoint's secret. A reveal is recorded in the audit log before the secret is shown; after a
//! rotation, the old secret stays valid for a grace period.

use std::time::Duration;

use actix_web::http::StatusCode;
use askama::Template;

use crate::dashboard::components::form::{Form, FormField, FormPage};
use crate::dashboard::components::form_errors::store_errors;
use crate::dashboard::components::format::Line;
use crate::dashboard::components::widgets::Address;
use crate::dashboard::endpoints::endpoint_actions::{named, of_endpoint};
use crate::dashboard::endpoints::signature_headers;
use crate::dashboard::http::current_user::AppContext;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::form_once::once;
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::layout::{PageLayout, answer};
use crate::dashboard::http::verified_form::{VerifiedForm, done};
use crate::domain::access::portal::Capability;
use crate::domain::catalog::endpoint::Endpoint;
use crate::domain::signing::secret::{DEFAULT_GRACE, MAX_GRACE, Secret, SignatureType};
use crate::domain::{Invalid, duration_text};
use crate::service::endpoints;

#[derive(Template)]
#[template(path = "endpoint_secret.html")]
struct SecretPage {
    layout: PageLayout,
    address: Address,
    secret: Line,
    /// Whether `secret` is a public key.
    public: bool,
    path: String,
}

/// `POST {base}/endpoints/{endpoint}/secret`.
pub async fn reveal(FormInput { state, request, user: context, .. }: FormInput<AppContext>) -> PageResult {
    context.need_any(Capability::SEE_SECRET)?;
    let (store, now) = (context.store(&state.store), state.clock.now());
    let endpoint = named(&store, &request, &context).await?;
    let secret = endpoints::reveal_secret(&store, &context.tenant(), &endpoint, now).await?;
    let page = SecretPage {
        layout: of_endpoint(&context, &endpoint),
        address: Address::new(&endpoint.spec.url),
        secret: Line::new(&secret.ok_or(PageError::NotFound)?.shown()),
        public: endpoint.spec.signature_type == SignatureType::Ed25519,
        path: context.paths.endpoint(endpoint.id),
    };
    answer(StatusCode::OK, &page)
}

fn form() -> Form {
    Form::new(vec![
        FormField::text("key", "New secret", "")
            .help("whsec_… or whsk_…, matching the signature type. Leave empty to generate one."),
        FormField::text("gracePeriod", "Keep the old secret valid for", &duration_text::format(DEFAULT_GRACE))
            .help("Gives receivers time to switch: 0s to 7d."),
    ])
}

fn page(context: &AppContext, endpoint: &Endpoint, form: Form) -> FormPage {
    let path = context.paths.endpoint(endpoint.id);
    FormPage::new(
        of_endpoint(context, endpoint),
        "Rotate secret",
        form,
        (format!("{path}/rotate"), "Rotate secret"),
        path,
    )
    .lead("Deliveries are signed with both secrets until the old one expires.")
    .notes(signature_headers::in_rotation(&endpoint.spec))
    .about(Line::new(&endpoint.spec.url))
}

/// `GET {base}/endpoints/{endpoint}/rotate`.
pub async fn ask(PageInput { state, request, user: context }: PageInput<AppContext>) -> PageResult {
    context.need_any(Capability::ROTATE_SECRET)?;
    let endpoint = named(&state.store, &request, &context).await?;
    page(&context, &endpoint, form()).answer()
}

/// `POST {base}/endpoints/{endpoint}/rotate`.
pub async fn rotate(FormInput { state, request, user: context, submitted }: FormInput<AppContext>) -> PageResult {
    context.need_any(Capability::ROTATE_SECRET)?;
    let (store, now) = (submitted.once(context.store(&state.store)), state.clock.now());
    let endpoint = named(&store, &request, &context).await?;
    let rotated = || Ok(done(&context.paths.endpoint(endpoint.id), FlashNotice::Rotated));
    let refuse = |wrong: &[Invalid]| page(&context, &endpoint, form().filled(&submitted).with_errors(wrong)).answer();
    let act = async || {
        let (secret, grace) = match read(&submitted, endpoint.spec.signature_type) {
            Ok(read) => read,
            Err(wrong) => return refuse(&wrong),
        };
        match store.rotate_secret(&context.tenant(), context.app.id, endpoint.id, &secret, grace, now).await {
            Ok(true) => rotated(),
            Ok(false) => Err(PageError::NotFound),
            Err(error) => refuse(&store_errors(error, "key")?),
        }
    };
    once(&state, &submitted, act, async |_| rotated()).await
}

fn read(submitted: &VerifiedForm, kind: SignatureType) -> Result<(Secret, Duration), Vec<Invalid>> {
    let given = submitted.given("key").map(|text| Secret::parse("key", text));
    let secret = match given {
        None => Ok(Secret::generate(kind)),
        Some(secret) => secret.and_then(|secret| secret.check_kind("key", kind).map(|()| secret)),
    };
    let refused = |reason: String| Invalid::new("gracePeriod", reason);
    let grace = match submitted.given("gracePeriod").map(duration_text::parse) {
        None => Ok(DEFAULT_GRACE),
        Some(Ok(grace)) if grace > MAX_GRACE => {
            Err(refused(format!("must be 0s to {}", duration_text::format(MAX_GRACE))))
        }
        Some(read) => read.map_err(|what| refused(format!("{what}; expected a duration such as 24h"))),
    };
    match (secret, grace) {
        (Ok(secret), Ok(grace)) => Ok((secret, grace)),
        (secret, grace) => Err(secret.err().into_iter().chain(grace.err()).collect()),
    }
}
