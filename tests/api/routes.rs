//! Every route of the table, as it stands in the source, called by a webhook. A route that is added is tested too. (`access` has the
//! callers.)

use crate::support::on_both;
use crate::support::routes::{Route, routes};
use crate::world::{World, said};

on_both! {
    no_webhook_calls_the_api
}

/// A path with its parts filled in: what `parts` says, else something that there is not.
fn filled(path: &str, parts: &[(&str, &str)]) -> String {
    let segments =
        path.split('/').map(|segment| match segment.strip_prefix('{').and_then(|one| one.strip_suffix('}')) {
            Some(part) => parts.iter().find(|(name, _)| *name == part).map_or("nothing", |(_, value)| value),
            None => segment,
        });
    segments.collect::<Vec<_>>().join("/")
}

/// Endpoints whose URLs are operations of the API must not keep each other going, whatever token their own headers carry.
async fn no_webhook_calls_the_api(world: World) {
    let call = |method: &str, path: &str, headers: [(&'static str, &str); 2]| {
        let request = world.request(method, &format!("/api/v1{}", filled(path, &[]))).bearer_auth(&world.token);
        said(headers.into_iter().fold(request, |request, (name, value)| request.header(name, value)))
    };
    let agent = ("user-agent", "Sendoff/9.9.9");
    for Route { method, path, .. } in routes() {
        for id in ["webhook-id", "svix-id"] {
            let answer = call(method, &path, [agent, (id, "msg_1")]).await;
            assert_eq!(answer.expect(508)["code"], "loop_detected", "{method} {path} with {id}");
        }
        for headers in [[agent, ("x-id", "msg_1")], [("user-agent", "curl/8"), ("webhook-id", "msg_1")]] {
            let answer = call(method, &path, headers).await;
            assert_ne!(answer.status, 508, "{method} {path} with {headers:?}");
            // Nor is any answer sniffed, or kept unless it says so.
            assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{method} {path}");
            assert!(answer.headers.contains_key("cache-control"), "{method} {path}");
        }
    }
}
