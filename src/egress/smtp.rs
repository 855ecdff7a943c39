//! Mail: hands messages to the operator's mail server.

use std::error::Error as _;
use std::fmt;
use std::time::{Duration, SystemTime};

use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use tokio::time::timeout;

use crate::domain::notifications::mail::line;

/// Timeouts of one SMTP reply, and of a mail as a whole.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
const SEND_TIMEOUT: Duration = Duration::from_secs(40);

/// A mail server and the sender's address.
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

/// A plain-text mail to one recipient.
#[derive(Clone, Debug)]
pub struct OutgoingMail<'a> {
    /// Stays the same across retries. It becomes the `Message-ID`, which identifies duplicates.
    pub id: &'a str,
    pub recipient: &'a str,
    /// One line.
    pub subject: &'a str,
    pub text: String,
    pub written: SystemTime,
}

/// The mail server did not accept a mail.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct SmtpError {
    /// One line, without the password.
    pub reason: String,
    /// A retry would fail again.
    pub permanent: bool,
}

impl SmtpError {
    fn permanent(reason: impl fmt::Display) -> SmtpError {
        SmtpError { reason: line(&reason.to_string()), permanent: true }
    }

    fn transient(reason: impl fmt::Display) -> SmtpError {
        SmtpError { reason: line(&reason.to_string()), permanent: false }
    }
}

impl Smtp {
    /// Uses the mail server at `url`: `smtp://user:password@host:587?tls=required` or `smtps://…`.
    ///
    /// # Errors
    /// The URL is invalid; the error does not quote it.
    pub fn new(url: &str, from: Mailbox) -> Result<Smtp, SmtpError> {
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url)
            .map_err(|_| SmtpError::permanent("the mail server's URL is invalid"))?;
        Ok(Smtp { transport: transport.timeout(Some(RESPONSE_TIMEOUT)).build(), from })
    }

    /// Sends a mail. After `Ok`, the mail server is responsible for it.
    ///
    /// # Errors
    /// The server rejected the mail or did not accept it in time.
    pub async fn send(&self, mail: OutgoingMail<'_>) -> Result<(), SmtpError> {
        let message = self.message(mail)?;
        match timeout(SEND_TIMEOUT, self.transport.send(message)).await {
            Err(_) => Err(SmtpError::transient("the mail server took too long")),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                let code = error.status().map(u16::from).unwrap_or_default();
                // Authentication errors (53x) are retried: the operator may be correcting the credentials.
                let permanent = error.is_permanent() && !(530..540).contains(&code);
                let why = error.source().map(|source| format!(": {source}")).unwrap_or_default();
                let reason = match code {
                    0 => format!("the mail server can't be used{why}"),
                    _ => format!("the mail server answered {code}{why}"),
                };
                Err(if permanent { SmtpError::permanent(reason) } else { SmtpError::transient(reason) })
            }
        }
    }

    fn message(&self, mail: OutgoingMail<'_>) -> Result<Message, SmtpError> {
        let recipient: Address =
            mail.recipient.parse().map_err(|_| SmtpError::permanent("the contact is not an e-mail address"))?;
        let builder: MessageBuilder = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, recipient))
            .subject(line(mail.subject))
            .message_id(Some(format!("<{}@{}>", mail.id, self.from.email.domain())))
            .date(mail.written)
            .header(AutoSubmitted)
            .header(ContentType::TEXT_PLAIN);
        builder.body(mail.text).map_err(SmtpError::permanent)
    }
}

/// Marks the mail as automatic (RFC 3834), which stops auto-replies.
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

    fn written(recipient: &str, subject: &str) -> Result<String, SmtpError> {
        let smtp = Smtp::new("smtp://user:hidden@127.0.0.1:25", "Hooks <hooks@example.com>".parse().unwrap()).unwrap();
        assert!(!format!("{smtp:?}").contains("hidden"));
        let text = "Grüße\r\n.\r\nMAIL FROM:<x@example.com>\n".to_owned();
        let mail = OutgoingMail { id: "mail_1", recipient, subject, text, written: SystemTime::UNIX_EPOCH };
        Ok(String::from_utf8(smtp.message(mail)?.formatted()).unwrap())
    }

    #[test]
    fn untrusted_text_cannot_add_headers() {
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
    fn an_invalid_contact_is_a_permanent_error() {
        for contact in ["ops@example.com\r\nRCPT TO:<all@example.com>", "a@b@example.com", "<ops@example.com>"] {
            assert!(written(contact, "x").unwrap_err().permanent, "{contact}");
        }
    }
}
