//! The walk, once for each version of the client: they have other names and types for the same things.

macro_rules! walk {
    ($module:ident, $svix:ident, $js:ident, $types:ident, $upsert:ident, $set_headers:ident, $Endpoint:ident, $EventType:ident) => {
        mod $module {
            use std::time::{Duration, Instant};

            use $js::JsOption;
            use serde_json::json;
            #[allow(unused_imports)]
            use $svix::{api::*, models::*};
            use $svix::error::Error;
            use $svix::webhooks::Webhook;

            use crate::receiver::Receiver;

            /// How long the attempts of one message may take.
            const PATIENCE: Duration = Duration::from_secs(20);

            /// The status with which a call was refused.
            fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> u16 {
                match result {
                    Err(Error::Http(error)) => error.status.as_u16(),
                    Err(Error::Validation(error)) => {
                        assert!(!error.payload.expect("what is wrong").detail.is_empty());
                        error.status.as_u16()
                    }
                    other => panic!("not refused: {other:?}"),
                }
            }

            fn names<L: FromIterator<String>>(names: &[&str]) -> Option<L> {
                Some(names.iter().map(|name| (*name).to_owned()).collect())
            }

            fn pairs<L: FromIterator<(String, String)>>(pairs: &[(&str, &str)]) -> L {
                pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
            }

            /// Without retries of its own: a 5xx fails the walk at once.
            fn client(token: String) -> Svix {
                let server_url = Some(std::env::var("SENDOFF_URL").expect("where the server is"));
                Svix::new(token, Some(SvixOptions { server_url, num_retries: Some(0), ..SvixOptions::default() }))
            }

            pub async fn walk() {
                let svix = client(std::env::var("SENDOFF_TOKEN").expect("a token"));
                let receiver = Receiver::start();
                svix.health().get().await.expect("an answer");
                resources(&svix, &receiver).await;
                deliveries(&svix, &receiver).await;
                customers(&svix).await;
            }

            async fn resources(svix: &Svix, receiver: &Receiver) {
                let acme = || ApplicationIn { uid: Some("acme".into()), ..ApplicationIn::new("Acme".into()) };
                let applications = svix.application();
                let once = || Some(ApplicationCreateOptions { idempotency_key: Some("app-1".into()) });
                let app = applications.create(acme(), once()).await.expect("made");
                assert_eq!(applications.create(acme(), once()).await.expect("the same").id, app.id);
                assert_eq!(refused(applications.create(acme(), None).await), 409);
                assert_eq!(applications.get_or_create(acme(), None).await.expect("it").id, app.id);
                assert_eq!(applications.get("acme".into()).await.expect("it").id, app.id);
                assert_eq!(refused(applications.get("nobody".into()).await), 404);
                applications.$upsert("acme".into(), acme()).await.expect("replaced");
                let named = ApplicationPatch { name: Some("Acme 2".into()), ..ApplicationPatch::default() };
                assert_eq!(applications.patch("acme".into(), named).await.expect("changed").name, "Acme 2");
                assert_eq!(applications.list(None).await.expect("a list").data.len(), 1);

                let catalog = svix.event_type();
                // The order of its arguments changed.
                let mut paid = EventTypeIn::new("Paid".into(), "Paid".into());
                paid.name = "invoice.paid".into();
                catalog.create(paid, None).await.expect("made");
                catalog.$upsert("invoice.sent".into(), $EventType::new("Sent".into())).await.expect("made");
                let changed = EventTypePatch { description: Some("Sent off".into()), ..EventTypePatch::default() };
                catalog.patch("invoice.sent".into(), changed).await.expect("changed");
                assert_eq!(catalog.get("invoice.sent".into()).await.expect("it").description, "Sent off");
                assert_eq!(catalog.list(None).await.expect("a list").data.len(), 2);
                catalog.delete("invoice.sent".into(), None).await.expect("archived");

                let endpoints = svix.endpoint();
                let main = EndpointIn {
                    uid: Some("main".into()),
                    $types: names(&["invoice.paid"]),
                    headers: Some(pairs(&[("X-Team", "ops")])),
                    metadata: Some(pairs(&[("a", "b")])),
                    ..EndpointIn::new(receiver.url())
                };
                let made = endpoints.create("acme".into(), main, None).await.expect("made");
                assert_eq!((made.uid.as_deref(), made.$types.map(|types| types.len())), (Some("main"), Some(1)));
                let wrong = EndpointIn::new("http://10.0.0.1/".into());
                assert_eq!(refused(endpoints.create("acme".into(), wrong, None).await), 422);
                let other = $Endpoint::new("https://example.com/".into());
                endpoints.$upsert("acme".into(), "other".into(), other).await.expect("made");
                let all = EndpointPatch { $types: JsOption::Null, ..EndpointPatch::default() };
                assert!(endpoints.patch("acme".into(), "main".into(), all).await.expect("changed").$types.is_none());
                let options = EndpointListOptions { limit: Some(1), ..EndpointListOptions::default() };
                assert!(!endpoints.list("acme".into(), Some(options)).await.expect("a list").done);
                endpoints.delete("acme".into(), "other".into()).await.expect("gone");
                let headers = endpoints.get_headers("acme".into(), "main".into()).await.expect("headers");
                assert_eq!(headers.headers.get("X-Team").map(String::as_str), Some("ops"));
                let set = EndpointHeadersIn::new(pairs(&[("X-Team", "sales")]));
                endpoints.$set_headers("acme".into(), "main".into(), set).await.expect("set");
                let before = endpoints.get_secret("acme".into(), "main".into()).await.expect("a secret").key;
                let rotation = EndpointSecretRotateIn::default();
                endpoints.rotate_secret("acme".into(), "main".into(), rotation, None).await.expect("rotated");
                assert_ne!(endpoints.get_secret("acme".into(), "main".into()).await.expect("a secret").key, before);
            }

            async fn deliveries(svix: &Svix, receiver: &Receiver) {
                let key = svix.endpoint().get_secret("acme".into(), "main".into()).await.expect("a secret").key;
                let paid = || MessageIn {
                    event_id: Some("ev-1".into()),
                    channels: names(&["eu"]),
                    tags: names(&["x"]),
                    ..MessageIn::new("invoice.paid".into(), json!({"amount": 12.5}))
                };
                let messages = svix.message();
                let message = messages.create("acme".into(), paid(), None).await.expect("accepted");
                assert_eq!(refused(messages.create("acme".into(), paid(), None).await), 409);
                for _ in 0..2 {
                    let delivery = receiver.next();
                    assert_eq!(delivery.headers["webhook-id"], *message.id);
                    assert_eq!(delivery.headers["x-team"], "sales");
                    let webhook = Webhook::new(&key).expect("a secret");
                    webhook.verify(&delivery.body, &delivery.headers).expect("signed");
                    assert!(webhook.verify(b"another", &delivery.headers).is_err());
                }
                assert_eq!(messages.get("acme".into(), "ev-1".into(), None).await.expect("it").id, message.id);
                let options = MessageListOptions {
                    event_types: names(&["invoice.paid", "x"]),
                    channel: Some("eu".into()),
                    tag: Some("x".into()),
                    after: Some("2026-01-01T00:00:00+00:00".parse().expect("a time")),
                    ..MessageListOptions::default()
                };
                assert_eq!(messages.list("acme".into(), Some(options)).await.expect("a list").data.len(), 1);

                let attempts = svix.message_attempt();
                let begun = Instant::now();
                let found = loop {
                    assert!(begun.elapsed() < PATIENCE, "two attempts in {PATIENCE:?}");
                    let list = attempts.list_by_msg("acme".into(), "ev-1".into(), None).await.expect("a list").data;
                    if list.len() == 2 {
                        break list;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                };
                assert_eq!((found[0].response_status_code, found[1].response_status_code), (200, 500));
                let one = attempts.get("acme".into(), "ev-1".into(), found[0].id.clone(), None).await;
                assert_eq!(one.expect("it").msg_id, message.id);
                let by_endpoint = attempts.list_by_endpoint("acme".into(), "main".into(), None).await.expect("a list");
                assert_eq!(by_endpoint.data.len(), 2);
                let sent = attempts.list_attempted_messages("acme".into(), "main".into(), None).await.expect("a list");
                assert_eq!(sent.data[0].event_id.as_deref(), Some("ev-1"));
                let ways = attempts.list_attempted_destinations("acme".into(), "ev-1".into(), None).await.expect("it");
                assert_eq!(ways.data.len(), 1);
                let stats = svix.endpoint().get_stats("acme".into(), "main".into(), None).await.expect("counts");
                assert_eq!(stats.success, 1);
                attempts.resend("acme".into(), "ev-1".into(), "main".into(), None).await.expect("sent again");
                assert_eq!(receiver.next().headers["webhook-id"], *message.id);
                let since = RecoverIn::new("2026-11-29T00:00:00Z".parse().expect("a time"));
                let recover = svix.endpoint().recover("acme".into(), "main".into(), since, None).await;
                assert!(recover.is_ok_and(|task| task.id.starts_with("qtask_")));
                messages.expunge_content("acme".into(), "ev-1".into()).await.expect("gone");
            }

            async fn customers(svix: &Svix) {
                let access = AppPortalAccessIn { expiry: Some(3_600), ..AppPortalAccessIn::default() };
                let access = svix.authentication().app_portal_access("acme".into(), access, None).await.expect("it");
                assert!(access.url.contains("/portal/enter/"));
                let visitor = svix.with_token(access.token);
                assert_eq!(visitor.endpoint().list("acme".into(), None).await.expect("a list").data.len(), 1);
                assert_eq!(refused(visitor.application().list(None).await), 403);
                let all = ApplicationTokenExpireIn::default();
                svix.authentication().expire_all("acme".into(), all, None).await.expect("ended");
                assert_eq!(refused(visitor.endpoint().list("acme".into(), None).await), 401);
                svix.application().delete("acme".into()).await.expect("gone");
            }
        }
    };
}

pub(crate) use walk;
