//! The ceiling: the cost of the HTTP server, the signing and the client alone. It parses a message, answers 202, signs
//! and sends like Sendoff, and stores nothing. The bench restarts itself with [`FLAG`] to run it in its own process.

use std::sync::Arc;
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use bytes::Bytes;
use sendoff::domain::MessageId;
use sendoff::domain::address::AddressPolicy;
use sendoff::domain::signing::secret::{Secret, SignatureType};
use sendoff::domain::signing::signature::Signing;
use sendoff::domain::time::Clock;
use sendoff::egress::{Egress, Post};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use url::Url;

/// Makes this program the ceiling.
pub const FLAG: &str = "--serve-the-ceiling";
/// Sendoff's defaults for requests in flight: per endpoint, and in total.
const IN_FLIGHT: (usize, usize) = (64, 1_024);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageRequest<'a> {
    event_type: &'a str,
    #[serde(borrow)]
    payload: &'a RawValue,
}

struct Sender {
    egress: Egress,
    signing: Signing,
    url: Url,
}

impl Sender {
    async fn send(&self, payload: Bytes) {
        let now = Clock.now();
        let mut headers = http::HeaderMap::new();
        headers.insert("content-type", http::HeaderValue::from_static("application/json"));
        self.signing.sign(&mut headers, MessageId::new(now), now, &payload);
        let post =
            Post { url: &self.url, headers, exact_case: &[], body: payload, timeout: Duration::from_secs(15), now };
        let outcome = self.egress.post(post).await.expect("a request that could be made");
        assert!(outcome.delivered(), "{}", outcome.detail);
    }
}

fn number(name: &str) -> usize {
    let text = std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    text.parse().unwrap_or_else(|_| panic!("{name}={text}: expected a number"))
}

/// Serves on `CEILING_PORT` until killed, and sends each message `CEILING_FAN_OUT` times.
pub fn serve() {
    let port = number("CEILING_PORT") as u16;
    let fan_out = number("CEILING_FAN_OUT");
    let in_flight = (IN_FLIGHT.0 * number("CEILING_ENDPOINTS")).min(IN_FLIGHT.1);
    let url = Url::parse(&std::env::var("CEILING_TARGET").expect("a target")).expect("a URL");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (queue, mut waiting) = mpsc::unbounded_channel::<Bytes>();
    let policy = AddressPolicy { allow: vec!["127.0.0.1/32".parse().expect("a network")], https_only: false };
    let sender = Arc::new(Sender {
        egress: Egress::new(policy).expect("a client"),
        signing: Signing::new(&Secret::generate(SignatureType::Hmac256), std::iter::empty(), &[]),
        url,
    });
    runtime.spawn(async move {
        let room = Arc::new(tokio::sync::Semaphore::new(in_flight));
        while let Some(payload) = waiting.recv().await {
            for _ in 0..fan_out {
                let permit = room.clone().acquire_owned().await.expect("never closed");
                let (sender, payload) = (sender.clone(), payload.clone());
                tokio::spawn(async move {
                    sender.send(payload).await;
                    drop(permit);
                });
            }
        }
    });
    let server = async move {
        HttpServer::new(move || {
            App::new().app_data(web::Data::new(queue.clone())).route("/api/v1/app/{app}/msg/", web::post().to(accept))
        })
        .bind(("127.0.0.1", port))
        .expect("the port")
        .run()
        .await
    };
    actix_web::rt::System::new().block_on(server).expect("to serve");
}

async fn accept(queue: web::Data<mpsc::UnboundedSender<Bytes>>, body: Bytes) -> HttpResponse {
    let message: MessageRequest<'_> = serde_json::from_slice(&body).expect("a message");
    let payload = body.slice_ref(message.payload.get().as_bytes());
    let id = MessageId::new(Clock.now());
    let answer = format!(
        r#"{{"id":"{id}","eventType":"{}","payload":{},"timestamp":"{}"}}"#,
        message.event_type,
        message.payload.get(),
        Clock.now()
    );
    queue.send(payload).expect("the sender runs");
    HttpResponse::Accepted().content_type("application/json").body(answer)
}
