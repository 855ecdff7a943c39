//! The second factor of the user's own account: setting it up, new recovery codes, and turning it off.
//!
//! The secret is not stored before it is confirmed: it is derived from the session and a random value in the form.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use askama::Template;
use qrcodegen::{QrCode, QrCodeEcc};
use zeroize::Zeroizing;

use crate::dashboard::DashboardState;
use crate::dashboard::components::form_errors::why;
use crate::dashboard::components::format::Line;
use crate::dashboard::http::current_user::CurrentOperator;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::form_once::{new_id, once};
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::http::session;
use crate::dashboard::http::verified_form::{VerifiedForm, done};
use crate::dashboard::settings::own_account;
use crate::dashboard::settings::own_account::{current_password, own, own_change};
use crate::domain::Invalid;
use crate::domain::access::api_key;
use crate::domain::access::operator::Operator;
use crate::domain::access::totp::{RECOVERY_CODES, SECRET_BYTES, TotpSecret, TypedCode, recovery_code};
use crate::store::access::second_factors::NewSecondFactor;
use crate::store::access::sign_in_links::TokenHash;

#[derive(Template)]
#[template(path = "second_factor_setup.html")]
struct SetupPage {
    layout: PageLayout,
    name: Line,
    /// The random value from which the secret is derived.
    draft: Line,
    /// The secret in groups of four characters.
    secret: Line,
    qr: Option<QrPath>,
    wrong: Vec<Invalid>,
    /// The account can open no other page until it has a second factor.
    required: bool,
}

/// A QR code as an SVG path, one unit per module.
struct QrPath {
    size: i32,
    path: String,
}

impl SetupPage {
    fn why(&self, field: &str) -> Option<&str> {
        why(&self.wrong, field)
    }
}

#[derive(Template)]
#[template(path = "recovery_codes.html")]
struct CodesPage {
    layout: PageLayout,
    codes: Vec<String>,
}

impl QrPath {
    /// `None`: the text is too long for a QR code.
    fn of(text: &str) -> Option<QrPath> {
        let code = QrCode::encode_text(text, QrCodeEcc::Medium).ok()?;
        let size = code.size();
        let mut path = String::new();
        for y in 0..size {
            let mut x = 0;
            while x < size {
                let width = (x..size).take_while(|x| code.get_module(*x, y)).count() as i32;
                if width > 0 {
                    path.push_str(&format!("M{x} {y}h{width}v1h-{width}z"));
                }
                x += width.max(1);
            }
        }
        Some(QrPath { size, path })
    }
}

/// The secret of a draft. It is bound to the session, so another user cannot choose it.
fn secret_of(state: &DashboardState, user: &CurrentOperator, draft: &str) -> Option<TotpSecret> {
    let seed = Zeroizing::new(session::mac(&state.secret, &[b"second factor", &user.hash, draft.as_bytes()]));
    TotpSecret::from_bytes(&seed[..SECRET_BYTES])
}

/// `GET /account/second-factor`.
pub async fn show(PageInput { state, user, .. }: PageInput<CurrentOperator>) -> PageResult {
    let operator = own(&user)?;
    match operator.has_password && !operator.second_factor {
        true => page(&state, &user, operator, &new_id(), Vec::new()),
        false => Ok(done("/account", FlashNotice::SecondFactorThere)),
    }
}

fn page(
    state: &DashboardState,
    user: &CurrentOperator,
    operator: &Operator,
    draft: &str,
    wrong: Vec<Invalid>,
) -> PageResult {
    let secret = secret_of(state, user, draft).ok_or(PageError::NotFound)?;
    let status = if wrong.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let text = secret.text();
    let groups: Vec<&str> = text.as_bytes().chunks(4).filter_map(|group| std::str::from_utf8(group).ok()).collect();
    let (required, layout) = (user.lacks_second_factor(state), PageLayout::of(user, NavItem::Account));
    let page = SetupPage {
        layout: if required { layout.without_head() } else { layout.under("/account", "Your account") },
        required,
        name: Line::new(&operator.name),
        draft: Line::new(draft),
        secret: Line::new(&groups.join(" ")),
        qr: QrPath::of(&secret.uri(&operator.name)),
        wrong,
    };
    answer(status, &page)
}

/// The recovery codes that a form creates; a repeated form gets the same ones.
fn codes(state: &DashboardState, submitted: &VerifiedForm) -> Vec<String> {
    let credential = submitted.credential(state);
    let seed = |n: usize| session::mac(&state.secret, &[b"recovery code", credential.as_bytes(), &[n as u8]]);
    (0..RECOVERY_CODES).map(|n| recovery_code(seed(n))).collect()
}

/// The hashes of recovery codes, as stored.
fn hashes(codes: &[String]) -> Vec<TokenHash> {
    let plain = codes.iter().filter_map(|code| TypedCode::parse(code));
    plain
        .filter_map(|code| match code {
            TypedCode::Recovery(plain) => Some(api_key::hash(&plain)),
            TypedCode::App(_) => None,
        })
        .collect()
}

fn codes_page(user: &CurrentOperator, codes: Vec<String>) -> PageResult {
    let layout = PageLayout::of(user, NavItem::Account).under("/account", "Your account");
    answer(StatusCode::OK, &CodesPage { layout, codes })
}

/// `POST /account/second-factor`: confirms the secret with a code and the password. The response shows the recovery
/// codes.
pub async fn confirm(FormInput { state, user, submitted, .. }: FormInput<CurrentOperator>) -> PageResult {
    let operator = own(&user)?;
    let codes = codes(&state, &submitted);
    let act = async || match confirmed(&state, &user, operator, &submitted, &codes).await? {
        Ok(()) => codes_page(&user, codes.clone()),
        Err(wrong) => page(&state, &user, operator, submitted.get("draft"), wrong),
    };
    once(&state, &submitted, act, async |_| codes_page(&user, codes.clone())).await
}

async fn confirmed(
    state: &DashboardState,
    user: &CurrentOperator,
    operator: &Operator,
    submitted: &VerifiedForm,
    codes: &[String],
) -> Result<Result<(), Vec<Invalid>>, PageError> {
    let now = state.clock.now();
    let secret = secret_of(state, user, submitted.get("draft")).ok_or(PageError::NotFound)?;
    let step = match TypedCode::parse(submitted.get("code")) {
        Some(TypedCode::App(code)) => secret.accepts(&code, None, now),
        _ => None,
    };
    let Some(used) = step else {
        return Ok(Err(vec![Invalid::new("code", "is not the current code: check the clock of your device")]));
    };
    let password = match current_password(state, user, operator, submitted).await? {
        Ok(password) => password,
        Err(wrong) => return Ok(Err(vec![wrong])),
    };
    let new = NewSecondFactor { secret, used, recovery_codes: hashes(codes) };
    let store = submitted.once(user.store(&state.store));
    match store.add_second_factor(own_change(user, operator, &password), &new, now).await? {
        true => Ok(Ok(())),
        false => Ok(Err(vec![Invalid::new("current", "was just changed, or a second factor was added elsewhere")])),
    }
}

/// `POST /account/second-factor/change`. Fields: `current`, the password; `do`: `codes` replaces the recovery codes,
/// `remove` turns the second factor off.
pub async fn change(FormInput { state, request, user, submitted }: FormInput<CurrentOperator>) -> PageResult {
    let codes = codes(&state, &submitted);
    let removes = match submitted.get("do") {
        "remove" => true,
        "codes" => false,
        _ => return Err(PageError::BadRequest("The form has no such button.")),
    };
    let act = async || {
        let codes = (!removes).then_some(&codes[..]);
        changed(&state, &request, &user, &submitted, codes).await
    };
    once(&state, &submitted, act, async |_| codes_page(&user, codes.clone())).await
}

/// Replaces the recovery codes by `codes`, or removes the second factor.
async fn changed(
    state: &DashboardState,
    request: &HttpRequest,
    user: &CurrentOperator,
    submitted: &VerifiedForm,
    codes: Option<&[String]>,
) -> PageResult {
    let (operator, now) = (own(user)?, state.clock.now());
    if let Err(wrong) = current_password(state, user, operator, submitted).await? {
        // The page has another field for the current password.
        let wrong = Invalid::new("second_current", wrong.reason);
        return own_account::page(state, request, user, Some(wrong)).await;
    }
    let store = submitted.once(user.store(&state.store));
    match codes {
        Some(codes) => match store.replace_recovery_codes(&user.org, operator, &hashes(codes), now).await? {
            true => codes_page(user, codes.to_vec()),
            false => Err(PageError::NotFound),
        },
        None if state.require_totp => Err(PageError::NotAllowed),
        None => match store.remove_second_factor(&user.org, operator, now).await? {
            true => Ok(done("/account", FlashNotice::SecondFactorRemoved)),
            false => Err(PageError::NotFound),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qr_code_has_its_finder_patterns() {
        let qr =
            QrPath::of("otpauth://totp/Sendoff:anna?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Sendoff").unwrap();
        assert!(qr.size >= 21 && qr.path.starts_with("M0 0h7v1h-7z"), "{} {}", qr.size, qr.path);
        assert!(qr.path.contains(&format!("M{} 0h7v1h-7z", qr.size - 7)));
        assert!(QrPath::of(&"x".repeat(5_000)).is_none());
    }
}
