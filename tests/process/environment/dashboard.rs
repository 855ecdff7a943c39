//! The dashboard on a port of its own, which can be private while the REST API is public.

use reqwest::header::{HOST, ORIGIN, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response};

use super::api::Api;
use crate::support::{Binary, Kind, SOON, complaint, eventually, free_port, on_both, sqlite_file};

on_both! {
    the_dashboard_can_have_its_own_port
}

fn client() -> Client {
    Client::builder().redirect(Policy::none()).build().expect("a client")
}

async fn status(client: &Client, url: &str) -> Option<u16> {
    client.get(url).send().await.ok().map(|answer| answer.status().as_u16())
}

/// The value of an attribute that follows `before`.
fn value_after<'a>(page: &'a str, before: &str) -> &'a str {
    let (_, rest) = page.split_once(before).unwrap_or_else(|| panic!("no {before} in {page}"));
    rest.split('"').next().expect("an end")
}

/// Signs in by a one-time link; gives the answer to the form.
async fn sign_in(client: &Client, link: &str) -> Response {
    let page = client.get(link).send().await.expect("an answer").text().await.expect("a page");
    let [token, csrf] = ["token", "csrf"].map(|name| value_after(&page, &format!("name=\"{name}\" value=\"")));
    let (login, _) = link.split_once('?').expect("a token");
    let origin = login.strip_suffix("/login").expect("the page of the sign-in");
    let form = format!("token={token}&csrf={csrf}");
    let request = client.post(login).header(ORIGIN, origin).header("content-type", "application/x-www-form-urlencoded");
    request.body(form).send().await.expect("an answer")
}

async fn the_dashboard_can_have_its_own_port(kind: Kind) {
    let dashboard = format!("http://127.0.0.1:{}", free_port());
    let api = Api::on(kind, &[("SENDOFF_DASHBOARD_LISTEN", dashboard.trim_start_matches("http://"))]);
    let (client, main) = (client(), api.server.url());
    eventually("the dashboard's port", SOON, async || status(&client, &format!("{dashboard}/login")).await).await;
    for (path, on_dashboard, on_main) in [
        ("/login", 401, 404),
        ("/", 303, 307),
        ("/applications", 303, 404),
        ("/keys", 303, 404),
        ("/settings", 303, 404),
        ("/api/v1/health", 404, 204),
        ("/api/v1/openapi.json", 404, 200),
        ("/api/v1/app", 404, 401),
        ("/docs", 404, 200),
        ("/healthz", 404, 200),
        ("/readyz", 404, 200),
        ("/metrics", 404, 200),
        ("/portal", 404, 401),
        ("/portal/left", 404, 200),
    ] {
        let seen =
            (status(&client, &format!("{dashboard}{path}")).await, status(&client, &format!("{main}{path}")).await);
        assert_eq!(seen, (Some(on_dashboard), Some(on_main)), "{path}");
    }
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        for (port, path) in [(&dashboard, "/api/v1/app"), (&main, "/login"), (&main, "/operators")] {
            let answer = client.request(method.clone(), format!("{port}{path}")).bearer_auth(&api.token);
            assert_eq!(answer.send().await.expect("an answer").status(), 404, "{method} {port}{path}");
        }
    }
    // Links and redirects lead to the dashboard's port, and its links to the API to the other one.
    let link = api.server.binary().run(&["login-link"]).stdout;
    let link = link.trim();
    assert!(link.starts_with(&format!("{dashboard}/login?token=")), "{link}");
    assert!(api.server.output().contains(&format!("Dashboard: {dashboard}/login?token=")), "{}", api.server.output());
    let signed_in = sign_in(&client, link).await;
    assert_eq!(signed_in.status(), 303);
    let cookie =
        signed_in.headers()[SET_COOKIE].to_str().expect("text").split(';').next().expect("a cookie").to_owned();
    let settings =
        client.get(format!("{dashboard}/settings")).header("cookie", &cookie).send().await.expect("an answer");
    assert_eq!(settings.status(), 200);
    let settings = settings.text().await.expect("a page");
    assert!(settings.contains(&format!("\"{main}/docs\"")), "{settings}");
}

#[tokio::test]
async fn each_port_answers_under_its_own_url_only() {
    let file = sqlite_file();
    let (dashboard, portal) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
    let settings = [
        ("SENDOFF_PUBLIC_URL", "https://api.example.com"),
        ("SENDOFF_DASHBOARD_LISTEN", &dashboard),
        ("SENDOFF_DASHBOARD_URL", "https://dashboard.example.com"),
        ("SENDOFF_PORTAL_LISTEN", &portal),
        ("SENDOFF_PORTAL_URL", "https://portal.example.com"),
    ];
    let api = Api::at(&file.url(), &settings);
    let (client, main) = (client(), api.server.url());
    let as_host = async |address: &str, path: &str, host: &str| {
        let request = client.get(format!("http://{address}{path}")).header(HOST, host);
        request.send().await.ok().map(|answer| answer.status().as_u16())
    };
    for address in [&dashboard, &portal] {
        eventually("the port", SOON, async || as_host(address, "/", "dashboard.example.com").await).await;
    }
    for (address, path, host, wanted) in [
        (&dashboard, "/login", "dashboard.example.com", 401),
        (&dashboard, "/login", "api.example.com", 421),
        (&dashboard, "/login", "portal.example.com", 421),
        (&portal, "/portal/left", "portal.example.com", 200),
        (&portal, "/portal/left", "dashboard.example.com", 421),
    ] {
        assert_eq!(as_host(address, path, host).await, Some(wanted), "{path} as {host}");
    }
    // The other port has no page at all.
    for path in ["/", "/login", "/portal", "/portal/left", "/applications", "/catalog/org_default", "/static/0/app.css"]
    {
        assert_eq!(status(&client, &format!("{main}{path}")).await, Some(404), "{path}");
    }
    assert_eq!(status(&client, &format!("{main}/api/v1/health")).await, Some(204));
    let link = api.server.binary().run(&["login-link"]).stdout;
    assert!(link.starts_with("https://dashboard.example.com/login?token="), "{link}");
}

#[test]
fn a_url_of_the_dashboard_needs_its_port() {
    let binary = Binary::on(&sqlite_file().url()).set("SENDOFF_DASHBOARD_URL", "https://d.example.com");
    let line = complaint(&binary.run(&["serve"]), 2);
    assert!(line.contains("needs SENDOFF_DASHBOARD_LISTEN"), "{line}");
}

#[test]
fn two_ports_at_one_address_are_a_wrong_setting() {
    let (file, port) = (sqlite_file(), free_port());
    let names = ["SENDOFF_LISTEN", "SENDOFF_ADMIN_LISTEN", "SENDOFF_DASHBOARD_LISTEN", "SENDOFF_PORTAL_LISTEN"];
    for (n, one) in names.into_iter().enumerate() {
        for other in &names[n + 1..] {
            for (its, others) in [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("[::1]", "[::]")] {
                let binary = Binary::on(&file.url());
                let binary = binary.set(one, &format!("{its}:{port}")).set(other, &format!("{others}:{port}"));
                let line = complaint(&binary.run(&["serve"]), 2);
                assert!(line.contains(one) && line.contains(other) && line.contains("the same port"), "{line}");
            }
        }
    }
    // A port in use by another process is told by its setting.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let binary = Binary::on(&file.url()).set("SENDOFF_DASHBOARD_LISTEN", &address);
    let line = complaint(&binary.set("SENDOFF_LISTEN", "127.0.0.1:0").run(&["serve"]), 1);
    assert!(line.contains("SENDOFF_DASHBOARD_LISTEN"), "{line}");
}
