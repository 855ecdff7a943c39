//! A minimal HTTP client that posts messages.

use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::receiver::STAMP;

/// Slightly longer than the server's own limit.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(35);

/// A server with Sendoff's REST API, and applications to post to.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Host and port.
    pub authority: String,
    pub token: String,
    /// Ids or uids.
    pub applications: Vec<String>,
}

/// One connection with a prebuilt request, in which only the timestamp changes.
pub struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    stamp_at: usize,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects to post payloads of `payload` bytes (at least 40) to `application`.
    pub async fn connect(destination: &Destination, application: &str, payload: usize) -> io::Result<Client> {
        let stamp = std::str::from_utf8(STAMP).expect("text");
        let fill = "x".repeat(payload.saturating_sub(stamp.len() + 24));
        let payload = format!("{stamp}{:>12}\",\"fill\":\"{fill}\"}}", 0);
        let body = format!("{{\"eventType\":\"bench.event\",\"payload\":{payload}}}");
        let request = format!(
            "POST /api/v1/app/{application}/msg/ HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            destination.authority,
            destination.token,
            body.len()
        );
        let stamp_at = request.find(stamp).expect("a stamp") + stamp.len();
        let stream = TcpStream::connect(&destination.authority).await?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, request: request.into_bytes(), stamp_at, buffer: vec![0; 8 * 1_024 + body.len()] })
    }

    /// Posts a message that counts as sent at `at`, a time since the receiver's start. `true`: accepted.
    ///
    /// # Errors
    /// The connection broke, or there was no response within [`RESPONSE_TIMEOUT`].
    pub async fn post(&mut self, at: Duration) -> io::Result<bool> {
        let stamp = format!("{:>12}", at.as_micros());
        self.request[self.stamp_at..self.stamp_at + 12].copy_from_slice(stamp.as_bytes());
        tokio::time::timeout(RESPONSE_TIMEOUT, self.exchange())
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Posts a message that counts as sent now.
    pub async fn post_now(&mut self, began: Instant) -> io::Result<bool> {
        self.post(began.elapsed()).await
    }

    async fn exchange(&mut self) -> io::Result<bool> {
        self.stream.write_all(&self.request).await?;
        let mut filled = 0;
        loop {
            if filled == self.buffer.len() {
                self.buffer.resize(filled * 2, 0);
            }
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += read;
            if head(&self.buffer[..filled]).is_some_and(|(head, length)| filled >= head + length) {
                return Ok(self.buffer.starts_with(b"HTTP/1.1 202"));
            }
        }
    }
}

/// The start and length of the body of a request or response.
pub fn head(bytes: &[u8]) -> Option<(usize, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    let line = text.lines().find(|line| line.len() > 15 && line[..15].eq_ignore_ascii_case("content-length:"));
    let length = line.and_then(|line| line[15..].trim().parse().ok()).unwrap_or(0);
    Some((end, length))
}
