//! Sends notifications about failing endpoints to the contacts of applications, one mail at a time. The text is
//! rendered here from the stored content.

use std::time::{Duration, UNIX_EPOCH};

use askama::Template;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::fleet::FleetWatch;
use super::periodic::{self, PollSettings};
use crate::domain::Time;
use crate::domain::notifications::mail::{MailNotice, NoticeKind, next_attempt};
use crate::domain::time::Clock;
use crate::egress::smtp::{OutgoingMail, Smtp};
use crate::store::recording::mail::{Mail, MailOutcome};
use crate::store::{Store, StoreError};
use crate::supervisor::Component;

/// The poll interval of an idle fleet.
const POLL: Duration = Duration::from_secs(1);
/// The longest poll interval of one process, and the longest wait while the store is unavailable.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The settings of outgoing mail.
#[derive(Clone, Debug)]
pub struct Mailer {
    pub smtp: Smtp,
    /// The portal's base URL for links, if it is configured.
    pub portal_url: Option<Url>,
}

/// Sends mail until `stop` is cancelled.
pub(crate) async fn run(mailer: Mailer, store: Store, clock: Clock, fleet: FleetWatch, stop: CancellationToken) {
    let settings = PollSettings { poll: POLL, longest: LONGEST_WAIT, fleet };
    periodic::run(settings, "mail waits for the store", stop, || mailer.next(&store, clock)).await;
}

impl Mailer {
    /// Sends the next due mail. Returns `false` if there is none.
    async fn next(&self, store: &Store, clock: Clock) -> Result<bool, StoreError> {
        let Some(mail) = store.lease_mail(clock.now()).await? else { return Ok(false) };
        Component::Mail.panic_point();
        let (subject, text) = (subject(&mail), text(&mail, self.portal_url.as_ref()));
        let id = mail.id.to_string();
        let written = UNIX_EPOCH + Duration::from_micros(mail.created_at.micros().max(0) as u64);
        let outgoing = OutgoingMail { id: &id, recipient: &mail.recipient, subject: &subject, text, written };
        let tried = match self.smtp.send(outgoing).await {
            Ok(()) => MailOutcome::Sent,
            Err(error) => {
                match next_attempt(mail.created_at, mail.attempts, clock.now()).filter(|_| !error.permanent) {
                    Some(due) => MailOutcome::Retry { due, failure: error.reason },
                    None => MailOutcome::GivenUp { failure: error.reason },
                }
            }
        };
        let (id, app, attempts) = (mail.id, mail.app, mail.attempts);
        let outcome = match &tried {
            MailOutcome::Sent => "sent",
            MailOutcome::Retry { due, failure } => {
                tracing::warn!(%id, %app, attempts, again = %due, "a mail was not accepted: {failure}");
                "retried"
            }
            MailOutcome::GivenUp { failure } => {
                tracing::error!(%id, %app, attempts, "a mail to the contact of {app} was given up: {failure}");
                "failed"
            }
        };
        metrics::counter!("sendoff_mails_total", "outcome" => outcome).increment(1);
        store.record_mail_outcome(&mail, &tried).await?;
        Ok(true)
    }
}

/// A notice as text.
struct NoticeText<'m> {
    address: &'m str,
    what: String,
    last: &'m str,
    link: Option<String>,
}

#[derive(Template)]
#[template(path = "mail/notices.txt")]
struct NoticesMail<'m> {
    app: &'m str,
    notices: Vec<NoticeText<'m>>,
    more: usize,
    failing: bool,
    disabled: bool,
}

fn is_failing(notice: &MailNotice) -> bool {
    matches!(notice.what, NoticeKind::Failing { .. })
}

fn subject(mail: &Mail) -> String {
    let (app, letter) = (&mail.app_name, &mail.letter);
    match letter.notices.as_slice() {
        [one] if is_failing(one) => format!("{app}: webhooks to {} keep failing", one.address),
        [one] => format!("{app}: the webhook endpoint {} was disabled", one.address),
        all if all.iter().all(is_failing) => format!("{app}: webhooks to {} endpoints keep failing", letter.len()),
        _ => format!("{app}: {} webhook endpoints keep failing or were disabled", letter.len()),
    }
}

fn text(mail: &Mail, portal_url: Option<&Url>) -> String {
    let notices = &mail.letter.notices;
    let sentence = |notice: &'_ MailNotice| {
        let since = notice.since.map(|since| format!(" since {}", day_and_time(since))).unwrap_or_default();
        match notice.what {
            NoticeKind::Failing { disable_at } => format!(
                "Every delivery has failed{since}. It will be disabled on {} unless a delivery succeeds before.",
                day_and_time(disable_at)
            ),
            NoticeKind::Disabled => format!("It was disabled: every delivery had failed{since}."),
            NoticeKind::Gone => "It was disabled: it responded with 410 Gone, which asks us to stop.".to_owned(),
        }
    };
    let link = |notice: &MailNotice| Some(format!("{}portal/endpoints/{}", portal_url?, notice.endpoint));
    let template = NoticesMail {
        app: &mail.app_name,
        notices: notices
            .iter()
            .map(|notice| NoticeText {
                address: &notice.address,
                what: sentence(notice),
                last: &notice.last,
                link: link(notice),
            })
            .collect(),
        more: mail.letter.more,
        failing: notices.iter().any(is_failing),
        disabled: notices.iter().any(|notice| !is_failing(notice)),
    };
    // Rendering plain text cannot fail. If it did, the subject would still carry the message.
    template.render().unwrap_or_default()
}

/// A date and time in UTC, to the minute.
fn day_and_time(time: Time) -> String {
    match jiff::Timestamp::from_microsecond(time.micros()) {
        Ok(stamp) => stamp.strftime("%-d %B %Y, %H:%M UTC").to_string(),
        Err(_) => time.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::notifications::mail::MailContent;
    use crate::domain::{AppId, EndpointId, MailId};

    const SINCE: Time = Time::from_micros(1_795_338_000_000_000);

    fn mail(what: &[NoticeKind], more: usize) -> Mail {
        let notice = |what: &NoticeKind| MailNotice {
            endpoint: EndpointId::new(SINCE),
            address: "example.com/hook".into(),
            what: *what,
            since: Some(SINCE),
            last: "it responded with 503: the receiver itself failed".into(),
        };
        Mail {
            id: MailId::new(SINCE),
            app: AppId::new(SINCE),
            app_name: "Acme".into(),
            recipient: "ops@example.com".into(),
            letter: MailContent { notices: what.iter().map(notice).collect(), more },
            created_at: SINCE,
            attempts: 1,
        }
    }

    #[test]
    fn the_subject_names_the_application_and_the_endpoint() {
        let failing = NoticeKind::Failing { disable_at: SINCE };
        for (what, more, said) in [
            (&[failing][..], 0, "Acme: webhooks to example.com/hook keep failing"),
            (&[NoticeKind::Gone], 0, "Acme: the webhook endpoint example.com/hook was disabled"),
            (&[failing, failing], 3, "Acme: webhooks to 5 endpoints keep failing"),
            (&[failing, NoticeKind::Disabled], 0, "Acme: 2 webhook endpoints keep failing or were disabled"),
        ] {
            assert_eq!(subject(&mail(what, more)), said);
        }
    }

    #[test]
    fn the_text_says_since_when_why_and_how_to_fix_it() {
        let failing = NoticeKind::Failing { disable_at: SINCE.plus(Duration::from_secs(5 * 86_400)) };
        let portal_url = "https://hooks.example.com".parse().unwrap();
        let one = mail(&[failing], 0);
        let link = format!("https://hooks.example.com/portal/endpoints/{}", one.letter.notices[0].endpoint);
        let wanted = format!(
            "This is about webhooks for Acme.

example.com/hook
  Every delivery has failed since 22 November 2026, 09:00 UTC. It will be disabled on 27 November 2026, 09:00 UTC unless a delivery succeeds before.
  Last failure: it responded with 503: the receiver itself failed.
  {link}

Effect

- While an endpoint fails, each event for it is retried for a while and then given up. Events that were given up are kept and can be resent.

Next steps

- Make the receiver respond quickly with a status from 200 to 299: it should store the event, respond, and process it afterwards.
- Then resend the events that it missed.

You receive this email because your address is the contact for these webhooks."
        );
        assert_eq!(text(&one, Some(&portal_url)).trim_end(), wanted);

        let both = text(&mail(&[failing, NoticeKind::Disabled], 2), None);
        assert!(!both.contains("http") && both.contains("\nAnd 2 more.\n"), "{both}");
        for said in [
            "Then enable the endpoint again.",
            "receives nothing",
            "It was disabled: every delivery had failed since 22",
        ] {
            assert!(both.contains(said), "{said}: {both}");
        }
        assert!(!both.contains("\n\n\n"), "{both}");
    }
}
