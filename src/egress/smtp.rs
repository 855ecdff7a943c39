//! The other way out: a mail, handed to the mail server that was set. What the server says to it is data, as with a receiver.

use std::error::Error as _;
use std::fmt;
use std::time::{Duration, SystemTime};

use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use tokio::time::timeout;

use crate::domain::mail::line;

/// How long a mail server may take for each of its answers, and for a mail as a whole.
const ANSWER: Duration = Duration::from_secs(10);
const WHOLE: Duration = Duration::from_secs(40);

/// A mail server, and who mail comes from.
#[derive(Clone)]
pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl fmt::Debug for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Smtp(from {})", self.from.email)
    }
}

/// A mail to one recipient: plain text and nothing else.
#[derive(Clone, Debug)]
pub struct Outgoing<'a> {
    /// The same at each try: it becomes the `Message-ID`, by which two of the same are known as one.
    pub id: &'a str,
    pub recipient: &'a str,
    /// One line.
    pub subject: &'a str,
    pub text: String,
    pub written: SystemTime,
}

/// Why a mail was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Untaken {
    /// One line; never the password.
    pub what: String,
    /// Another try would change nothing.
    pub for_good: bool,
}

impl Untaken {
    fn for_good(what: impl fmt::Display) -> Untaken {
        Untaken { what: line(&what.to_string()), for_good: true }
    }

    fn for_now(what: impl fmt::Display) -> Untaken {
        Untaken { what: line(&what.to_string()), for_good: false }
    }
}

impl Smtp {
    /// A mail server by its URL: `smtp://user:password@host:587?tls=required`, `smtps://…`.
    ///
    /// # Errors
    /// It is no such URL. The sentence does not quote it.
    pub fn new(url: &str, from: Mailbox) -> Result<Smtp, Untaken> {
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url)
            .map_err(|_| Untaken::for_good("the mail server's URL cannot be used"))?;
        Ok(Smtp { transport: transport.timeout(Some(ANSWER)).build(), from })
    }

    /// Hands a mail to the server. `Ok`: the server has it, and its delivery is the server's.
    ///
    /// # Errors
    /// It has not, or did not say so in time.
    pub async fn send(&self, mail: Outgoing<'_>) -> Result<(), Untaken> {
        let message = self.message(mail)?;
        match timeout(WHOLE, self.transport.send(message)).await {
            Err(_) => Err(Untaken::for_now("the mail server took too long")),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                // Not the name or the password (53x): those are the operator's, who may be mending them.
                let code = error.status().map(u16::from).unwrap_or_default();
                let for_good = error.is_permanent() && !(530..540).contains(&code);
                let why = error.source().map(|source| format!(": {source}")).unwrap_or_default();
                let what = match code {
                    0 => format!("the mail server could not be used{why}"),
                    _ => format!("the mail server answered {code}{why}"),
                };
                Err(if for_good { Untaken::for_good(what) } else { Untaken::for_now(what) })
            }
        }
    }

    fn message(&self, mail: Outgoing<'_>) -> Result<Message, Untaken> {
        let recipient: Address =
            mail.recipient.parse().map_err(|_| Untaken::for_good("the contact is not an e-mail address"))?;
        let builder: MessageBuilder = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, recipient))
            .subject(line(mail.subject))
            .message_id(Some(format!("<{}@{}>", mail.id, self.from.email.domain())))
            .date(mail.written)
            .header(AutoSubmitted)
            .header(ContentType::TEXT_PLAIN);
        builder.body(mail.text).map_err(Untaken::for_good)
    }
}

/// Says that no human wrote it (RFC 3834): who is away does not answer.
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(AutoSubmitted)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(recipient: &str, subject: &str) -> Result<String, Untaken> {
        let smtp = Smtp::new("smtp://user:hidden@127.0.0.1:25", "Hooks <hooks@example.com>".parse().unwrap()).unwrap();
        assert!(!format!("{smtp:?}").contains("hidden"));
        let text = "Grüße\r\n.\r\nMAIL FROM:<x@example.com>\n".to_owned();
        let mail = Outgoing { id: "mail_1", recipient, subject, text, written: SystemTime::UNIX_EPOCH };
        Ok(String::from_utf8(smtp.message(mail)?.formatted()).unwrap())
    }

    #[test]
    fn what_others_chose_makes_no_header() {
        let text = written("ops@example.com", "Acme\r\nBcc: all@example.com").unwrap();
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        let names: Vec<&str> = head.lines().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
        let expected = [
            "From",
            "To",
            "Subject",
            "Message-ID",
            "Date",
            "Auto-Submitted",
            "Content-Type",
            "Content-Transfer-Encoding",
        ];
        for name in expected {
            assert_eq!(names.iter().filter(|one| **one == name).count(), 1, "{name} in {head}");
        }
        assert!(!names.contains(&"Bcc"), "{head}");
        assert!(
            head.contains("<mail_1@example.com>") && head.contains("Subject: Acme  Bcc: all@example.com"),
            "{head}"
        );
    }

    #[test]
    fn a_contact_that_is_no_address_is_not_tried_again() {
        for contact in ["ops@example.com\r\nRCPT TO:<all@example.com>", "a@b@example.com", "<ops@example.com>"] {
            assert!(written(contact, "x").unwrap_err().for_good, "{contact}");
        }
    }
}
