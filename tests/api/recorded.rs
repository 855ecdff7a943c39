//! The clients of languages whose registries the suite does not reach, by what their sources say that they send: headers, how a list and a
//! time stand in a query, what stands in a body that has nothing to say, what becomes of a field without a value.

use reqwest::RequestBuilder;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT};
use serde_json::{Value, json};

use crate::support::on_both;
use crate::world::{Said, World, said};

on_both! {
    go
    ruby
    java
    kotlin
    csharp
    php
}

/// How a client makes its requests.
struct Client {
    agent: &'static str,
    /// Of bodies.
    content_type: &'static str,
    accept: Option<&'static str>,
    accept_encoding: &'static str,
    /// It sends a key of its own with each POST.
    keys: bool,
    /// What it sends with a POST that has no body.
    nothing: Option<&'static str>,
    /// It sends fields without a value as null, not only in a PATCH.
    nulls: bool,
    /// Some time of the past in a query, encoded.
    past: &'static str,
}

const GO: Client = Client {
    agent: "svix-libs/1.84.1/go",
    content_type: "application/json",
    accept: None,
    accept_encoding: "gzip",
    keys: true,
    nothing: None,
    nulls: false,
    past: "2026-01-01T01%3A00%3A00%2B01%3A00",
};

async fn go(world: World) {
    walk(&world, GO).await;
}

async fn ruby(world: World) {
    let client = Client {
        agent: "svix-libs/1.84.1/ruby",
        accept: Some("*/*"),
        accept_encoding: "gzip;q=1.0,deflate;q=0.6,identity;q=0.3",
        keys: false,
        nothing: Some("{}"),
        past: "2026-01-01T00%3A00%3A00%2B00%3A00",
        ..GO
    };
    walk(&world, client).await;
}

async fn java(world: World) {
    let client = Client {
        agent: "svix-libs/1.84.1/java",
        content_type: "application/json; charset=utf-8",
        nothing: Some(""),
        past: "2026-01-01T00%3A00%3A00Z",
        ..GO
    };
    walk(&world, client).await;
}

async fn kotlin(world: World) {
    let client = Client {
        agent: "svix-libs/1.84.1/kotlin",
        content_type: "application/json; charset=utf-8",
        nothing: Some(""),
        past: "2026-01-01T00:00:00.123456Z",
        ..GO
    };
    walk(&world, client).await;
}

async fn csharp(world: World) {
    let client = Client {
        agent: "svix-libs/1.84.1/csharp",
        content_type: "application/json; charset=utf-8",
        past: "2026-01-01T00%3A00%3A00.1234567Z",
        ..GO
    };
    walk(&world, client).await;
}

async fn php(world: World) {
    let client = Client {
        agent: "svix-libs/1.84.1/php php/8.2.28 Linux/x86_64",
        nulls: true,
        past: "2026-01-01T00%3A00%3A00%2B00%3A00",
        ..GO
    };
    walk(&world, client).await;
}

impl Client {
    fn request(&self, world: &World, number: usize, method: &str, path: &str) -> RequestBuilder {
        let mut request =
            world.request(method, &format!("/api/v1{path}")).header(AUTHORIZATION, format!("Bearer {}", world.token));
        request = request.header(USER_AGENT, self.agent).header("svix-req-id", "17293822569102704640");
        request = request.header(ACCEPT_ENCODING, self.accept_encoding);
        if let Some(accept) = self.accept {
            request = request.header(ACCEPT, accept);
        }
        if self.keys && method == "POST" {
            request = request.header("idempotency-key", format!("auto_{number:08}-0000-4000-8000-000000000000"));
        }
        request
    }
}

/// What a team does with its client.
async fn walk(world: &World, client: Client) {
    let number = std::cell::Cell::new(0);
    let ask = async |method: &str, path: &str, body: Option<Value>| -> Said {
        number.set(number.get() + 1);
        let request = client.request(world, number.get(), method, path);
        said(match (body, client.nothing) {
            (Some(body), _) => request.header(CONTENT_TYPE, client.content_type).body(body.to_string()),
            (None, Some(nothing)) if method == "POST" => {
                request.header(CONTENT_TYPE, client.content_type).body(nothing)
            }
            (None, _) if method == "POST" => request.header(CONTENT_LENGTH, 0),
            (None, _) => request,
        })
        .await
    };
    // Fields that nobody set, as a client that sends them does.
    let with_nulls = |mut body: Value, names: &[&str]| {
        for name in names.iter().filter(|_| client.nulls) {
            body[*name] = Value::Null;
        }
        body
    };
    let app = with_nulls(json!({"name": "Acme", "uid": "acme"}), &["rateLimit", "throttleRate", "metadata"]);
    let made = ask("POST", "/app?get_if_exists=true", Some(app.clone())).await.expect(201);
    let again = ask("POST", "/app?get_if_exists=true", Some(app.clone())).await.expect(200);
    assert_eq!(made["id"], again["id"]);
    ask("PUT", "/app/acme", Some(app)).await.expect(200);
    let event_type = with_nulls(
        json!({"name": "invoice.paid", "description": "Paid"}),
        &["archived", "deprecated", "featureFlag", "featureFlags", "groupName", "schemas"],
    );
    ask("POST", "/event-type", Some(event_type)).await.expect(201);
    let endpoint = with_nulls(
        json!({"url": "https://example.com/hook", "uid": "main", "filterTypes": ["invoice.paid"], "version": 1}),
        &["channels", "description", "disabled", "headers", "metadata", "rateLimit", "secret", "throttleRate"],
    );
    let endpoint = ask("POST", "/app/acme/endpoint", Some(endpoint)).await.expect(201);
    assert_eq!(endpoint["filterTypes"], json!(["invoice.paid"]));
    // A PATCH clears what is null, in each of them.
    let patch = json!({"description": "d", "channels": null, "rateLimit": null});
    assert_eq!(ask("PATCH", "/app/acme/endpoint/main", Some(patch)).await.expect(200)["description"], json!("d"));
    let key = ask("GET", "/app/acme/endpoint/main/secret", None).await.expect(200)["key"].clone();
    ask("POST", "/app/acme/endpoint/main/secret/rotate", Some(with_nulls(json!({}), &["key"]))).await.expect(200);
    assert_ne!(ask("GET", "/app/acme/endpoint/main/secret", None).await.expect(200)["key"], key);
    ask("PUT", "/app/acme/endpoint/main/headers", Some(json!({"headers": {"x-team": "ops"}}))).await.expect(204);

    let message = with_nulls(
        json!({"eventType": "invoice.paid", "eventId": "ev-1", "payload": {"a": 1}, "channels": ["eu"], "tags": ["x"]}),
        &["application", "deliverAt", "payloadRetentionHours", "payloadRetentionPeriod", "transformationsParams"],
    );
    let message = ask("POST", "/app/acme/msg?with_content=false", Some(message)).await.expect(202);
    let list = format!(
        "/app/acme/msg?after={}&channel=eu&event_types=invoice.paid%2Cinvoice.sent&limit=50&tag=x&with_content=false",
        client.past
    );
    let list = ask("GET", &list, None).await.expect(200);
    assert_eq!((&list["data"][0]["id"], &list["data"][0]["payload"]), (&message["id"], &json!({})));
    let app_id = made["id"].as_str().expect("an id");
    let ids = [&message, &endpoint].map(|one| one["id"].as_str().expect("an id").to_owned());
    world.attempt(app_id, &ids[0], &ids[1], 1, Some(500)).await;
    for path in ["/app/acme/attempt/msg/ev-1", "/app/acme/attempt/endpoint/main", "/app/acme/endpoint/main/msg"] {
        for more in ["", "&status=2", "&event_types=invoice.paid"] {
            let path = format!("{path}?after={}&expanded_statuses=true&with_content=false{more}", client.past);
            let list = ask("GET", &path, None).await.expect(200);
            assert!(list["data"].as_array().is_some_and(|data| data.len() <= 1), "{path}: {list}");
        }
    }
    ask("POST", "/app/acme/msg/ev-1/endpoint/main/resend", None).await.expect(202);
    // With as many digits as C# writes.
    let since = json!(message["timestamp"].as_str().expect("a time").replace('Z', "0Z"));
    let recover = with_nulls(json!({"since": since}), &["until"]);
    ask("POST", "/app/acme/endpoint/main/recover", Some(recover)).await.expect(202);
    let access = with_nulls(
        json!({"featureFlags": ["beta"]}),
        &["application", "capabilities", "expiry", "readOnly", "sessionId"],
    );
    let access = ask("POST", "/auth/app-portal-access/acme", Some(access)).await.expect(200);
    assert!(access["token"].is_string());
    ask("POST", "/auth/app/acme/expire-all", Some(with_nulls(json!({}), &["expiry"]))).await.expect(204);
    ask("DELETE", "/app/acme/endpoint/main", None).await.expect(204);
    ask("DELETE", "/app/acme", None).await.expect(204);
}
