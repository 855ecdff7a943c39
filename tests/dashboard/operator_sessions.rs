//! Lists of operators' sessions and their *End* buttons; links to reset a password.

use reqwest::{Method, StatusCode};
use sendoff::domain::access::operator::OperatorRole;

use crate::passwords::{PASSWORD, Visitor, account, account_as, signed_in};
use crate::support::on_both;
use crate::world::{World, field, hidden, location};

on_both! {
    operators_end_their_own_sessions_and_admins_all_sessions
    a_reset_link_sets_a_password_once_and_ends_the_sessions
}

/// The actions of the *End* buttons below `base`.
fn ends(page: &str, base: &str) -> Vec<String> {
    let mark = format!("action=\"{base}/");
    let found = page.split(&mark).skip(1).filter_map(|rest| rest.split('"').next());
    found.filter(|path| path.ends_with("/end")).map(|path| format!("{base}/{path}")).collect()
}

async fn operators_end_their_own_sessions_and_admins_all_sessions(world: World) {
    account(&world, "anna", None).await;
    let bert = account_as(&world, "bert", OperatorRole::Viewer, None).await;
    let (one, two, three) =
        (signed_in(&world, "bert").await, signed_in(&world, "bert").await, signed_in(&world, "bert").await);
    let (admin, link) = (signed_in(&world, "anna").await, world.sign_in().await);
    let page = one.page("/account").await;
    assert!(page.contains("this session") && page.contains("127.0.0.1"), "{page}");
    let own = ends(&page, "/account/sessions");
    assert_eq!(own.len(), 2, "not the current one: {page}");
    let done = one.post(&own[0], &hidden(&page)).await;
    assert_eq!(location(&done), "/account?notice=session-ended");
    let left = [&two, &three].map(|browser| browser.get("/"));
    let [two_left, three_left] = left;
    let both = [two_left.await.0, three_left.await.0];
    assert!(both.contains(&StatusCode::OK) && both.contains(&StatusCode::SEE_OTHER), "{both:?}");
    let again = one.post(&own[0], &hidden(&page)).await;
    assert_eq!(location(&again), "/account?notice=session-over");
    // Nobody ends another's by its address.
    let all = admin.page("/sessions").await;
    assert!(all.contains("a login link") && all.contains("anna") && all.contains("bert"), "{all}");
    let everybody = ends(&all, "/sessions");
    assert_eq!(everybody.len(), 3, "two of bert's and that of the link: {all}");
    for path in &everybody {
        let path = format!("/account{path}");
        let response = admin.post(&path, &hidden(&all)).await;
        assert_eq!(location(&response), "/account?notice=session-over", "{path}");
    }
    let done = one.post("/account/sessions/end", &hidden(&page)).await;
    assert_eq!(location(&done), "/account?notice=other-sessions-ended");
    assert_eq!(ends(&one.page("/account").await, "/account/sessions"), Vec::<String>::new());
    let path = format!("/operators/{}", bert.id);
    let page = admin.page(&path).await;
    let his = ends(&page, &format!("{path}/sessions"));
    assert_eq!(his.len(), 1, "{page}");
    let done = admin.post(&his[0], &hidden(&page)).await;
    assert_eq!(location(&done), format!("{path}?notice=session-ended"));
    assert_eq!(one.get("/").await.0, StatusCode::SEE_OTHER);
    let all = ends(&admin.page("/sessions").await, "/sessions");
    let done = admin.post(&all[0], &hidden(&page)).await;
    assert_eq!(location(&done), "/sessions?notice=session-ended");
    assert_eq!(link.get("/").await.0, StatusCode::SEE_OTHER);
    let log = admin.page("/audit?act=operator+session+ended").await;
    assert!(log.contains("bert") && log.contains("a login link"), "{log}");
}

async fn a_reset_link_sets_a_password_once_and_ends_the_sessions(world: World) {
    account(&world, "anna", None).await;
    let bert = account_as(&world, "bert", OperatorRole::Viewer, None).await;
    let (admin, open) = (signed_in(&world, "anna").await, signed_in(&world, "bert").await);
    let path = format!("/operators/{}", bert.id);
    let page = admin.page(&path).await;
    let response = admin.post(&format!("{path}/reset"), &hidden(&page)).await;
    assert_eq!(
        (response.status(), &response.headers()["cache-control"]),
        (StatusCode::OK, &"no-store".parse().unwrap())
    );
    let shown = response.text().await.unwrap();
    crate::html::check(&shown, "/reset");
    let link = shown.split("aria-label=\"The link\">").nth(1).unwrap().split('<').next().unwrap();
    let link = link.strip_prefix(world.url.as_str()).map(|rest| format!("/{rest}")).expect("a link of ours");
    assert_eq!(open.get("/").await.0, StatusCode::OK, "nothing ends before it is used");
    let visit = async |link: &str| {
        let response = world.request(Method::GET, link).send().await.unwrap();
        let status = response.status();
        let page = response.text().await.unwrap();
        crate::html::check(&page, link);
        (status, page)
    };
    let (status, form) = visit(&link).await;
    assert!(status == StatusCode::OK && form.contains("bert"), "{form}");
    let new = "a better one, much longer";
    let send = async |csrf: String, new: &str, again: &str| {
        let fields = [
            ("csrf", csrf),
            ("token", field(&form, "token")),
            ("new", new.to_owned()),
            ("new_again", again.to_owned()),
        ];
        world.post("/reset", &fields).send().await.unwrap()
    };
    let csrf = field(&form, "csrf");
    assert_eq!(send("x".into(), new, new).await.status(), StatusCode::FORBIDDEN);
    for (new, again, why) in [("short", "short", "at least 12"), (new, "another", "does not match")] {
        let response = send(csrf.clone(), new, again).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert!(response.text().await.unwrap().contains(why), "{why}");
    }
    let done = send(csrf.clone(), new, new).await;
    assert_eq!((done.status(), location(&done)), (StatusCode::SEE_OTHER, "/login?notice=password-reset"));
    assert_eq!(open.get("/").await.0, StatusCode::SEE_OTHER, "signed out");
    assert_eq!(visit(&link).await.0, StatusCode::NOT_FOUND);
    assert_eq!(send(csrf, new, new).await.status(), StatusCode::NOT_FOUND, "once");
    let visitor = Visitor::at(&world).await;
    assert_eq!(visitor.types("bert", PASSWORD).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(visitor.types("bert", new).await.status(), StatusCode::SEE_OTHER);

    // A second link replaces the first.
    let make = async || {
        let page = admin.page(&path).await;
        let shown = admin.post(&format!("{path}/reset"), &hidden(&page)).await.text().await.unwrap();
        let link = shown.split("aria-label=\"The link\">").nth(1).unwrap().split('<').next().unwrap();
        link.strip_prefix(world.url.as_str()).map(|rest| format!("/{rest}")).unwrap()
    };
    let (first, second) = (make().await, make().await);
    assert_eq!((visit(&first).await.0, visit(&second).await.0), (StatusCode::NOT_FOUND, StatusCode::OK));
    let log = admin.page("/audit").await;
    assert!(log.contains("password reset link made") && log.contains(">password reset<"), "{log}");
}
