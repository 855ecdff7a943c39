//! A mail server, in the test: it speaks SMTP with whoever comes, and takes, refuses, hangs up or says nothing as it is told. One thread per
//! connection.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{SOON, eventually_blocking};

/// What it does with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Take,
    /// Answers this command with that line.
    Refuse(&'static str, &'static str),
    /// Has the mail and ends the connection before it has said so.
    TakeAndHangUp,
    /// Greets nobody.
    SayNothing,
}

/// A mail that it has.
#[derive(Clone, Debug)]
pub struct Taken {
    pub from: String,
    pub to: Vec<String>,
    /// Head and body as they came, without the dots of SMTP.
    pub text: String,
    pub encrypted: bool,
    /// `user:password`, if it was told.
    pub login: Option<String>,
}

impl Taken {
    /// The value of a header, unfolded.
    pub fn header(&self, name: &str) -> Option<String> {
        let head = self.text.split("\r\n\r\n").next()?.replace("\r\n ", " ");
        let line = head.lines().find(|line| line.starts_with(&format!("{name}: ")))?;
        Some(line.split_once(": ")?.1.to_owned())
    }

    /// The text, whatever it was written in on its way.
    pub fn body(&self) -> String {
        let body = self.text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        match self.header("Content-Transfer-Encoding").as_deref() {
            Some("base64") => {
                let joined: String = body.split_whitespace().collect();
                String::from_utf8(base64::prelude::BASE64_STANDARD.decode(joined).expect("base64")).expect("UTF-8")
            }
            Some("quoted-printable") => unquoted(body),
            _ => body.to_owned(),
        }
    }
}

fn unquoted(text: &str) -> String {
    let text = text.replace("=\r\n", "");
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        if *first == b'=' && after.len() >= 2 {
            let code = std::str::from_utf8(&after[..2]).expect("ASCII");
            bytes.push(u8::from_str_radix(code, 16).expect("a code"));
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}

type Rule = dyn Fn(usize) -> Manner + Send + Sync;

struct Shared {
    rule: Box<Rule>,
    sessions: AtomicUsize,
    ended: AtomicUsize,
    taken: Mutex<Vec<Taken>>,
    /// STARTTLS is offered.
    tls: Option<Arc<rustls::ServerConfig>>,
}

pub struct MailServer {
    port: u16,
    shared: Arc<Shared>,
}

impl MailServer {
    /// Does with the session of each number, from 0, what `rule` says.
    pub fn start(rule: impl Fn(usize) -> Manner + Send + Sync + 'static) -> MailServer {
        MailServer::listen(rule, None)
    }

    /// The same, with STARTTLS and a certificate for `localhost`.
    pub fn with_tls(rule: impl Fn(usize) -> Manner + Send + Sync + 'static) -> MailServer {
        let file = |name: &str| format!("{}/tests/certificates/{name}.pem", env!("CARGO_MANIFEST_DIR"));
        let certificate = CertificateDer::from_pem_file(file("good")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(file("key")).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a pair");
        MailServer::listen(rule, Some(Arc::new(config)))
    }

    fn listen(rule: impl Fn(usize) -> Manner + Send + Sync + 'static, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(Shared {
            rule: Box::new(rule),
            sessions: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            taken: Mutex::default(),
            tls,
        });
        let of_thread = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = of_thread.clone();
                thread::spawn(move || {
                    let number = shared.sessions.fetch_add(1, Ordering::SeqCst);
                    let _ = Session::run(&shared, stream, (shared.rule)(number));
                    shared.ended.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        MailServer { port, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many have come so far.
    pub fn sessions(&self) -> usize {
        self.shared.sessions.load(Ordering::SeqCst)
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.shared.taken.lock().expect("the mails").clone()
    }

    /// Waits until so many sessions are over.
    pub fn wait_for_sessions(&self, count: usize) {
        eventually_blocking("sessions of the mail server", 2 * SOON, || {
            (self.shared.ended.load(Ordering::SeqCst) >= count).then_some(())
        });
    }

    /// Waits until it has so many mails.
    pub fn wait_for(&self, count: usize) -> Vec<Taken> {
        eventually_blocking("mails", 2 * SOON, || Some(self.taken()).filter(|taken| taken.len() >= count))
    }
}

trait Line: Read + Write {}
impl<T: Read + Write> Line for T {}

struct Session<'s> {
    shared: &'s Shared,
    manner: Manner,
    mail: Taken,
}

/// How a connection goes on.
enum Then {
    Encrypt,
    End,
}

impl Session<'_> {
    fn run(shared: &Shared, mut stream: TcpStream, manner: Manner) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        if manner == Manner::SayNothing {
            return stream.read(&mut [0]).map(drop);
        }
        let mail = Taken { from: String::new(), to: Vec::new(), text: String::new(), encrypted: false, login: None };
        let mut session = Session { shared, manner, mail };
        stream.write_all(b"220 mail.test ESMTP\r\n")?;
        if let Then::Encrypt = session.talk(&mut stream)? {
            let config = shared.tls.clone().expect("offered");
            let mut tls = rustls::ServerConnection::new(config).map_err(io::Error::other)?;
            session.mail.encrypted = true;
            session.talk(&mut rustls::Stream::new(&mut tls, &mut stream))?;
        }
        Ok(())
    }

    fn talk(&mut self, stream: &mut dyn Line) -> io::Result<Then> {
        loop {
            let line = read_line(stream)?;
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            if let Manner::Refuse(at, with) = self.manner
                && at == verb
            {
                write!(stream, "{with}\r\n")?;
                continue;
            }
            match verb.as_str() {
                "EHLO" => {
                    let tls = if self.shared.tls.is_some() && !self.mail.encrypted { "250-STARTTLS\r\n" } else { "" };
                    write!(stream, "250-mail.test\r\n{tls}250 AUTH PLAIN\r\n")?;
                }
                "STARTTLS" => {
                    stream.write_all(b"220 go on\r\n")?;
                    return Ok(Then::Encrypt);
                }
                "AUTH" => {
                    let given = line.rsplit(' ').next().unwrap_or_default();
                    let given = base64::prelude::BASE64_STANDARD.decode(given).unwrap_or_default();
                    let parts: Vec<&str> = std::str::from_utf8(&given).unwrap_or_default().split('\0').collect();
                    self.mail.login = parts.get(1..).map(|parts| parts.join(":"));
                    stream.write_all(b"235 welcome\r\n")?;
                }
                "MAIL" => {
                    self.mail.from = within(&line);
                    stream.write_all(b"250 fine\r\n")?;
                }
                "RCPT" => {
                    self.mail.to.push(within(&line));
                    stream.write_all(b"250 fine\r\n")?;
                }
                "DATA" => {
                    stream.write_all(b"354 go on\r\n")?;
                    self.mail.text = read_text(stream)?;
                    self.shared.taken.lock().expect("the mails").push(self.mail.clone());
                    if self.manner == Manner::TakeAndHangUp {
                        return Ok(Then::End);
                    }
                    stream.write_all(b"250 taken\r\n")?;
                }
                "QUIT" => {
                    stream.write_all(b"221 bye\r\n")?;
                    return Ok(Then::End);
                }
                _ => stream.write_all(b"502 what?\r\n")?,
            }
            stream.flush()?;
        }
    }
}

fn within(line: &str) -> String {
    line.split(['<', '>']).nth(1).unwrap_or_default().to_owned()
}

fn read_line(stream: &mut dyn Line) -> io::Result<String> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while !line.ends_with(b"\r\n") {
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

fn read_text(stream: &mut dyn Line) -> io::Result<String> {
    let mut text = String::new();
    loop {
        let line = read_line(stream)?;
        if line == "." {
            return Ok(text);
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
        text.push_str("\r\n");
    }
}
