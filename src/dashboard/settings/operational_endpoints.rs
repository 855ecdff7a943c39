//! Adds an operational endpoint, signed or as a chat channel, and sends test events to one.

use crate::dashboard::DashboardState;
use crate::dashboard::components::form::{Form, FormField, FormPage, SelectOption, lines};
use crate::dashboard::components::form_errors::{FormRejection, accept_errors, store_errors};
use crate::dashboard::http::app_paths::AppPaths;
use crate::dashboard::http::current_user::{CurrentOperator, part};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::form_once::once;
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout};
use crate::dashboard::http::verified_form::{VerifiedForm, done};
use crate::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use crate::domain::catalog::event_type::EventTypeSpec;
use crate::domain::notifications::chat::{ChatFormat, ChatHook};
use crate::domain::notifications::operational::OperationalKind;
use crate::domain::{Invalid, MessageId};
use crate::service::endpoints;
use crate::store::{EndpointRef, StoreError};

/// The events that a new endpoint subscribes to by default: those that need human action.
const URGENT: [OperationalKind; 5] = [
    OperationalKind::AttemptExhausted,
    OperationalKind::MessageExpired,
    OperationalKind::EndpointFailing,
    OperationalKind::EndpointDisabled,
    OperationalKind::OutboxStuck,
];
/// The option for a signed webhook.
const SIGNED: &str = "signed";

fn form() -> Form {
    let mut formats = vec![SelectOption::new(SIGNED, "Signed webhook (JSON)", true)];
    formats.extend(ChatFormat::ALL.map(|format| SelectOption::new(format.word(), format.label(), false)));
    let kind = |kind: &OperationalKind| SelectOption::new(kind.name(), kind.name(), URGENT.contains(kind));
    Form::new(vec![
        FormField::select("format", "Format", formats)
            .help("Slack, Teams and Discord get a short text with a link, through an incoming webhook of the channel."),
        FormField::text("url", "URL", "").kind("url").required().help(
            "The receiver, or the channel's incoming webhook URL. The path of a channel's URL is a secret and is never \
             shown again.",
        ),
        FormField::text("description", "Description", "").help("Such as the name of the channel."),
        FormField::ticks("eventTypes", "Events", OperationalKind::ALL.iter().map(kind).collect())
            .help("Leave empty for all current and future events."),
    ])
}

fn page(user: &CurrentOperator, form: Form) -> FormPage {
    let layout = PageLayout::of(user, NavItem::Operational).under("/operational", "Operational webhooks");
    FormPage::for_new(layout, "New operational endpoint", form, "Create endpoint", "/operational".to_owned())
        .lead("Notifies a receiver or a chat channel about your endpoints, deliveries and outbox.")
}

/// `GET /operational/new`.
pub async fn new(PageInput { user, .. }: PageInput<CurrentOperator>) -> PageResult {
    page(&user, form()).answer()
}

/// `POST /operational/new`.
pub async fn create(FormInput { state, user, submitted, .. }: FormInput<CurrentOperator>) -> PageResult {
    let created = || Ok(done("/operational", FlashNotice::Created));
    let act = async || match make(&state, &user, &submitted).await {
        Ok(_) => created(),
        Err(wrong) => page(&user, form().filled(&submitted).with_errors(&wrong?)).answer(),
    };
    once(&state, &submitted, act, async |_| created()).await
}

async fn make(
    state: &DashboardState,
    user: &CurrentOperator,
    submitted: &VerifiedForm,
) -> Result<Endpoint, FormRejection> {
    let spec = read(submitted);
    let mut wrong = spec.as_ref().err().cloned().unwrap_or_default();
    wrong.extend(endpoints::check_url(&state.egress, submitted.get("url").trim(), None).await.err());
    let spec = spec.ok().filter(|_| wrong.is_empty()).ok_or(Ok(wrong))?;
    let (store, now, tenant) = (submitted.once(user.store(&state.store)), state.clock.now(), user.tenant());
    let made = async {
        let app = state.store.ensure_operational_application(&tenant, now).await?;
        endpoints::create(&store, &tenant, app.id, (spec, None), now).await
    };
    made.await.map_err(|error: StoreError| store_errors(error, "url"))
}

fn read(submitted: &VerifiedForm) -> Result<EndpointSpec, Vec<Invalid>> {
    let url = submitted.get("url").trim().to_owned();
    let event_types: Vec<String> = submitted.all("eventTypes").flat_map(lines).collect();
    let mut spec = EndpointSpec {
        description: submitted.get("description").trim().to_owned(),
        event_types: Some(event_types).filter(|types| !types.is_empty()),
        ..EndpointSpec::default()
    };
    let mut wrong = Vec::new();
    match (submitted.get("format"), ChatFormat::from_word(submitted.get("format"))) {
        (SIGNED, _) => {}
        (_, Some(format)) => {
            spec.chat = Some(ChatHook::new(format, String::new()));
            spec.throttle_rate = Some(ChatHook::RATE);
        }
        (_, None) => wrong.push(Invalid::new("format", "must be one of the list")),
    }
    match url.is_empty() {
        true => wrong.push(Invalid::new("url", "must not be empty")),
        false => spec.set_url(url),
    }
    if wrong.is_empty() {
        wrong.extend(spec.check().err().into_iter().flatten());
    }
    if wrong.is_empty() { Ok(spec) } else { Err(wrong) }
}

/// `POST /operational/{endpoint}/test`. Redirects to the test message.
pub async fn test(FormInput { state, request, user, submitted }: FormInput<CurrentOperator>) -> PageResult {
    let (store, now, tenant) = (submitted.once(user.store(&state.store)), state.clock.now(), user.tenant());
    let app = store.operational_application(&tenant).await?.ok_or(PageError::NotFound)?;
    let named = EndpointRef::parse(part(&request, "endpoint")?).map_err(|_| PageError::NotFound)?;
    let endpoint = store.endpoint(&tenant, app.id, &named).await?.ok_or(PageError::NotFound)?;
    let ping = EventTypeSpec::ping("sendoff.ping").ok_or(PageError::NotFound)?;
    let paths = AppPaths::of_application(app.id);
    let act = async || match store.send_example(&tenant, &endpoint, &ping, None, now).await? {
        Ok(message) => Ok(done(&paths.message(message.id), FlashNotice::Sent)),
        // Disabled or deleted meanwhile.
        Err(refusal) => accept_errors(refusal).map(|_| done("/operational", FlashNotice::TestNotSent)),
    };
    let again = async |made: &str| {
        let message: MessageId = made.parse().map_err(|_| PageError::NotFound)?;
        Ok(done(&paths.message(message), FlashNotice::Sent))
    };
    once(&state, &submitted, act, again).await
}
