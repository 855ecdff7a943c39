//! The form fields of an endpoint, and their parsing into a spec.

use std::time::Duration;

use crate::dashboard::components::form::{Form, FormField, SelectOption, lines, number};
use crate::dashboard::http::verified_form::VerifiedForm;
use crate::domain::catalog::endpoint::{EndpointSpec, Headers, masked_header, origin_changed};
use crate::domain::deliveries::backoff::RetrySchedule;
use crate::domain::signing::secret::{Secret, SignatureType};
use crate::domain::signing::signature::{ExtraSignature, KeyForm};
use crate::domain::{EndpointId, Invalid, Uid, duration_text};

/// Shown instead of a masked header value.
pub const MASK: &str = "••••••••";
/// Maximum number of event types to tick; if there are more, the user types names.
const TICKS: usize = 100;

/// Builds the fields. `catalog` are the event types offered to the user; `new` adds settings that cannot be changed
/// later.
pub fn form(spec: &EndpointSpec, catalog: &[String], new: bool) -> Form {
    let uid = spec.uid.as_ref().map_or("", |uid| uid.as_str());
    let waits = spec.retry_schedule.as_ref().map(in_words).unwrap_or_default();
    let extras: Vec<String> = spec.extra_signatures.iter().map(extra_in_words).collect();
    let mut fields = vec![
        FormField::text("url", "URL", &spec.url).kind("url").required().help("Events are sent here by POST."),
        FormField::text("description", "Description", &spec.description),
        event_types(spec.event_types.as_deref().unwrap_or_default(), catalog),
        FormField::lines("channels", "Channels", spec.channels.iter().flatten())
            .help("One per line. Leave empty for all messages."),
        FormField::number("throttleRate", "Rate limit", spec.throttle_rate.map(u64::from), 1, 65_535)
            .help("Messages per second. Leave empty for no limit."),
    ];
    let mut advanced = vec![
        FormField::text("uid", "Uid", uid).help("Your own identifier, accepted in place of the id."),
        FormField::number("requestTimeoutSeconds", "Timeout (seconds)", spec.timeout.map(|span| span.as_secs()), 1, 30)
            .help("Per attempt. Leave empty for the default."),
        FormField::text("retrySchedule", "Retry schedule", &waits).help(
            "Waits between attempts, such as 5s, 5m, 30m, 2h. Leave empty for the default, or enter none for a single attempt.",
        ),
        FormField::tick("ordered", "Ordered delivery", spec.ordered).help(
            "One message at a time, in order of acceptance. A failing message blocks the next until it is delivered or dead.",
        ),
        FormField::code("headers", "Headers", &headers_in_words(&spec.headers), 3).help(
            "Sent with each request, one name: value per line. Hidden values are kept unless you replace them; enter them \
             again when the URL's scheme, host or port changes.",
        ),
        FormField::lines("extraSignatures", "Extra signatures", &extras).help(
            "For receivers that verify another format, one per line: svix; github X-Hub-Signature-256; \
             stripe Stripe-Signature. Append bytes to key the HMAC with the decoded secret instead of its text.",
        ),
    ];
    if new {
        let kind = |kind: SignatureType, label| SelectOption::new(kind.word(), label, spec.signature_type == kind);
        let kinds = vec![
            kind(SignatureType::Hmac256, "hmac256: a shared secret"),
            kind(SignatureType::Ed25519, "ed25519: a key pair"),
        ];
        advanced.push(
            FormField::select("signatureType", "Signature type", kinds)
                .help("Can't be changed later; the secret can be rotated."),
        );
        advanced.push(FormField::text("secret", "Secret", "").help("whsec_… or whsk_…. Leave empty to generate one."));
    }
    fields.extend(advanced.into_iter().map(FormField::advanced));
    Form::new(fields)
}

fn event_types(chosen: &[String], catalog: &[String]) -> FormField {
    const HELP: &str = "Leave empty for all current and future types.";
    if catalog.len() > TICKS || catalog.is_empty() {
        return FormField::lines("eventTypes", "Event types", chosen)
            .help("Names from the catalog, one per line. Leave empty for all current and future types.");
    }
    let gone = chosen.iter().filter(|name| !catalog.contains(name));
    let choice = |name: &String| SelectOption::new(name, name, chosen.contains(name));
    FormField::ticks("eventTypes", "Event types", catalog.iter().chain(gone).map(choice).collect()).help(HELP)
}

/// `5s, 5m, 30m`.
pub fn in_words(schedule: &RetrySchedule) -> String {
    match schedule.waits() {
        [] => "none".to_owned(),
        waits => waits.iter().map(|wait| duration_text::format(*wait)).collect::<Vec<_>>().join(", "),
    }
}

fn headers_in_words(headers: &Headers) -> String {
    let line = |(name, value): (&String, &String)| {
        format!("{name}: {}", if masked_header(name) { MASK } else { value.as_str() })
    };
    headers.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn extra_in_words(extra: &ExtraSignature) -> String {
    let keyed = |key: &KeyForm| if *key == KeyForm::Bytes { " bytes" } else { "" };
    match extra {
        ExtraSignature::Svix => "svix".to_owned(),
        ExtraSignature::GitHub { header, key } => format!("github {header}{}", keyed(key)),
        ExtraSignature::Stripe { header, key } => format!("stripe {header}{}", keyed(key)),
    }
}

/// Applies the form to `before`, and returns the secret of a new endpoint. Event types in `hidden` are kept.
///
/// # Errors
/// All invalid fields. Whether the URL is allowed is checked elsewhere.
pub fn read(
    submitted: &VerifiedForm,
    before: &EndpointSpec,
    hidden: &[String],
    new: bool,
) -> Result<(EndpointSpec, Option<Secret>), Vec<Invalid>> {
    let mut wrong = Vec::new();
    let mut spec = before.clone();
    spec.set_url(submitted.get("url").trim().to_owned());
    spec.description = submitted.get("description").trim().to_owned();
    put(
        &mut spec.uid,
        submitted.given("uid").map(|text| Uid::parse("uid", text, EndpointId::PREFIX)).transpose(),
        &mut wrong,
    );
    let mut types: Vec<String> = submitted.all("eventTypes").flat_map(lines).chain(hidden.iter().cloned()).collect();
    types.sort();
    types.dedup();
    spec.event_types = Some(types).filter(|types| !types.is_empty());
    spec.channels = Some(lines(submitted.get("channels"))).filter(|channels| !channels.is_empty());
    put(&mut spec.throttle_rate, number(submitted, "throttleRate", "a whole number from 1 to 65535"), &mut wrong);
    let timeout = number(submitted, "requestTimeoutSeconds", "a whole number from 1 to 30");
    put(&mut spec.timeout, timeout.map(|seconds| seconds.map(Duration::from_secs)), &mut wrong);
    put(&mut spec.retry_schedule, submitted.given("retrySchedule").map(schedule).transpose(), &mut wrong);
    spec.ordered = submitted.has("ordered");
    put(
        &mut spec.headers,
        headers(submitted.get("headers"), &before.headers, origin_changed(&before.url, &spec.url)),
        &mut wrong,
    );
    put(&mut spec.extra_signatures, extras(submitted.get("extraSignatures")), &mut wrong);
    let secret = if new { signing(submitted, &mut spec, &mut wrong) } else { None };
    wrong.extend(spec.check().err().into_iter().flatten());
    if wrong.is_empty() { Ok((spec, secret)) } else { Err(wrong) }
}

fn put<T>(place: &mut T, read: Result<T, Invalid>, wrong: &mut Vec<Invalid>) {
    match read {
        Ok(value) => *place = value,
        Err(one) => wrong.push(one),
    }
}

/// The signature type and secret of a new endpoint.
fn signing(submitted: &VerifiedForm, spec: &mut EndpointSpec, wrong: &mut Vec<Invalid>) -> Option<Secret> {
    match submitted.given("signatureType").map(SignatureType::from_word) {
        Some(None) => wrong.push(Invalid::new("signatureType", "must be hmac256 or ed25519")),
        Some(Some(kind)) => spec.signature_type = kind,
        None => {}
    }
    let parsed = submitted.given("secret").map(|text| Secret::parse("secret", text));
    let checked =
        parsed.map(|secret| secret.and_then(|one| one.check_kind("secret", spec.signature_type).map(|()| one)));
    match checked.transpose() {
        Ok(secret) => secret,
        Err(one) => {
            wrong.push(one);
            None
        }
    }
}

/// Parses `5s, 5m`, or `none`.
///
/// # Errors
/// A part is not a duration, or there are too many.
pub fn schedule(text: &str) -> Result<RetrySchedule, Invalid> {
    const FIELD: &str = "retrySchedule";
    if text == "none" {
        return RetrySchedule::new(FIELD, Vec::new());
    }
    let mut waits = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let wait = duration_text::parse(part);
        waits.push(wait.map_err(|what| Invalid::new(FIELD, format!("holds {part:?}, which {what}")))?);
    }
    RetrySchedule::new(FIELD, waits)
}

/// Parses headers, one per line. An empty or masked value keeps the old one, unless the URL's origin has changed: a
/// secret must not follow the URL to another origin.
fn headers(text: &str, before: &Headers, moved: bool) -> Result<Headers, Invalid> {
    let refused = |reason: String| Invalid::new("headers", reason);
    let mut headers = Headers::new();
    for line in lines(text) {
        // Not quoted: the line may contain a secret.
        let (name, value) = line.split_once(':').ok_or_else(|| refused("has a line without a colon".to_owned()))?;
        let (name, value) = (name.trim(), value.trim());
        let kept = before.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone());
        let value = match value {
            "" | MASK if moved && kept.is_some() && masked_header(name) => {
                let reason = format!("need the value of {name} again, because the URL's scheme, host or port changed");
                return Err(refused(reason));
            }
            "" | MASK => kept.ok_or_else(|| refused(format!("has no value for {name}")))?,
            value => value.to_owned(),
        };
        if headers.keys().any(|other| other.eq_ignore_ascii_case(name)) {
            return Err(refused(format!("has {name} twice")));
        }
        headers.insert(name.to_owned(), value);
    }
    Ok(headers)
}

fn extras(text: &str) -> Result<Vec<ExtraSignature>, Invalid> {
    let refused = |line: &str| {
        let reason = format!(
            "has the line {line:?}; expected svix, github HEADER or stripe HEADER, optionally followed by bytes"
        );
        Invalid::new("extraSignatures", reason)
    };
    let mut extras = Vec::new();
    for line in lines(text) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let key = match words.get(2..) {
            Some(["bytes"]) => KeyForm::Bytes,
            None | Some([] | ["text"]) => KeyForm::Text,
            Some(_) => return Err(refused(&line)),
        };
        extras.push(match words[..] {
            ["svix"] => ExtraSignature::Svix,
            ["github", header, ..] => ExtraSignature::GitHub { header: header.to_owned(), key },
            ["stripe", header, ..] => ExtraSignature::Stripe { header: header.to_owned(), key },
            _ => return Err(refused(&line)),
        });
    }
    Ok(extras)
}

#[cfg(test)]
mod tests {
    use crate::dashboard::endpoints::endpoint_fields::*;

    #[test]
    fn form_text_round_trips() {
        let words = "5s, 90s, 30m, 2h, 1d, 250ms";
        assert_eq!(in_words(&schedule(words).unwrap()), words);
        assert_eq!(in_words(&schedule("none").unwrap()), "none");
        assert!(schedule("5s, soon").unwrap_err().reason.contains("\"soon\""));
        let text = "svix\ngithub X-Hub-Signature-256\nstripe Stripe-Signature bytes";
        assert_eq!(extras(text).unwrap().iter().map(extra_in_words).collect::<Vec<_>>().join("\n"), text);
        for bad in ["github", "stripe a b", "other X", "svix x", "github a bytes more"] {
            assert!(extras(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn masked_headers_are_kept() {
        let of = |list: &[(&str, &str)]| -> Headers {
            list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let before = of(&[("Authorization", "Bearer s3cret"), ("x-team", "a")]);
        let words = headers_in_words(&before);
        assert!(!words.contains("s3cret") && words.contains("x-team: a"), "{words}");
        assert_eq!(headers(&words, &before, false).unwrap(), before);
        let again = headers(&words, &before, true).unwrap_err();
        assert!(again.reason.contains("value of Authorization again"), "{again}");
        assert_eq!(headers("x-team:", &before, true).unwrap(), of(&[("x-team", "a")]), "its value is no secret");
        let typed = headers("authorization: Bearer new", &before, true).unwrap();
        assert_eq!(typed, of(&[("authorization", "Bearer new")]));
        assert_eq!(
            headers("authorization:\nx-new: 1", &before, false).unwrap(),
            of(&[("authorization", "Bearer s3cret"), ("x-new", "1")])
        );
        assert_eq!(headers("", &before, false).unwrap(), Headers::new());
        for bad in ["x-other:", "no colon", "x-a: 1\nX-A: 2"] {
            assert!(headers(bad, &before, false).is_err(), "{bad}");
        }
    }
}
