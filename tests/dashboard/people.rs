//! Operators' accounts, the switch between organizations, API keys, the audit log: on their pages.

use reqwest::StatusCode;
use sendoff::domain::access::api_key;
use sendoff::domain::access::audit::{Actor, ActorKind};
use sendoff::store::Tenant;
use sendoff::store::access::audit::NewAuditEntry;

use crate::passwords::{account, signed_in};
use crate::support::on_both;
use crate::world::{Browser, World, field, location};

on_both! {
    accounts_are_made_and_removed
    an_account_of_some_organizations_sees_those_and_looks_after_nobody
    the_switch_leads_to_another_organization_and_to_nothing_of_the_one_before
    a_key_is_shown_once
    the_log_is_filtered_and_turned_over
}

const GOOD: &str = "correct horse battery";

async fn csrf(browser: &Browser<'_>, path: &str) -> (&'static str, String) {
    ("csrf", field(&browser.page(path).await, "csrf"))
}

async fn accounts_are_made_and_removed(world: World) {
    let browser = world.sign_in().await;
    let page = browser.page("/operators").await;
    assert!(page.contains("No accounts yet") && page.contains("autocomplete=\"new-password\""));
    let make = async |name: &str, password: &str, again: &str, sees: &str, orgs: &str| {
        let form = [
            ("csrf", field(&page, "csrf")),
            ("name", name.to_owned()),
            ("password", password.to_owned()),
            ("again", again.to_owned()),
            ("role", "admin".to_owned()),
            ("sees", sees.to_owned()),
            ("orgs", orgs.to_owned()),
        ];
        browser.post("/operators", &form).await
    };
    let made = make("Anna", GOOD, GOOD, "all", "").await;
    assert_eq!((made.status(), location(&made)), (StatusCode::SEE_OTHER, "/operators?notice=operator-created"));
    for (name, password, again, sees, orgs, why) in [
        ("anna", GOOD, GOOD, "all", "", vec!["is already taken"]),
        (
            "",
            "short",
            "shorter",
            "some",
            "nonsense",
            vec!["must have 1 to 256", "at least 12", "does not match", "org_ and 1 to 60"],
        ),
        ("b", GOOD, GOOD, "some", " ", vec!["must name 1 to 100 organizations"]),
        ("<b>\u{202e}", GOOD, "", "all", "", vec!["does not match"]),
    ] {
        let response = make(name, password, again, sees, orgs).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY, "{name}");
        let page = response.text().await.unwrap();
        crate::html::check(&page, "/operators");
        for why in why {
            assert!(page.contains(why), "{why}: {page}");
        }
        assert!(!page.contains(GOOD), "a password does not come back");
    }
    assert_eq!(make("bert", GOOD, GOOD, "some", "org_default org_b").await.status(), StatusCode::SEE_OTHER);
    let operators = world.store.operators().await.unwrap();
    assert_eq!(operators.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["anna", "bert"]);

    let anna = signed_in(&world, "anna").await;
    let path = |n: usize| format!("/operators/{}/remove", operators[n].id);
    assert!(browser.page(&path(0)).await.contains("This is the last admin of all organizations"));
    assert!(!browser.page(&path(1)).await.contains("last admin"));
    assert_eq!(make("carl", GOOD, GOOD, "all", "").await.status(), StatusCode::SEE_OTHER);
    let ask = path(0);
    let done = browser.post(&ask, &[csrf(&browser, &ask).await]).await;
    assert_eq!(location(&done), "/operators?notice=operator-removed");
    assert_eq!(anna.get("/").await.0, StatusCode::SEE_OTHER, "signed out");
    assert_eq!(browser.get(&ask).await.0, StatusCode::NOT_FOUND);
    let log = browser.page("/audit").await;
    for said in ["operator created", "operator removed", "operator by link"] {
        assert!(log.contains(said), "{said}: {log}");
    }
}

async fn an_account_of_some_organizations_sees_those_and_looks_after_nobody(world: World) {
    let anna = account(&world, "anna", None).await;
    account(&world, "bert", Some(&["org_b", "org_c"])).await;
    let other = Tenant::org("org_b".parse().unwrap());
    world.app(" mine").await;
    world.app_of(&other, "theirs").await;
    let bert = signed_in(&world, "bert").await;
    let page = bert.page("/account").await;
    assert!(page.contains("<h1>Your account</h1>") && !page.contains("anna"), "{page}");
    let settings = bert.page("/settings").await;
    for hidden in ["/operators", "/sessions"] {
        assert!(!settings.contains(&format!("href=\"{hidden}\"")), "{hidden}: {settings}");
        assert_eq!(bert.get(hidden).await.0, StatusCode::FORBIDDEN, "{hidden}");
    }
    let csrf = ("csrf", field(&page, "csrf"));
    assert_eq!(bert.get(&format!("/operators/{}", anna.id)).await.0, StatusCode::FORBIDDEN);
    let form = [csrf.clone(), ("name", "c".into()), ("password", GOOD.into()), ("again", GOOD.into())];
    assert_eq!(bert.post("/operators", &form).await.status(), StatusCode::FORBIDDEN);
    let remove = format!("/operators/{}/remove", anna.id);
    assert_eq!(bert.post(&remove, std::slice::from_ref(&csrf)).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(world.store.operators().await.unwrap().len(), 2);

    let menu = bert.page("/").await;
    let options: Vec<_> = menu.split("<option value=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(options, ["org_b", "org_c"], "{menu}");
    for (org, wanted) in
        [("org_c", "/"), ("org_default", "/?notice=no-organization"), ("org_a", "/?notice=no-organization")]
    {
        let response = bert.post("/organization", &[csrf.clone(), ("org", org.into())]).await;
        assert_eq!(location(&response), wanted, "{org}");
    }
    assert!(bert.page("/").await.contains("<span class=\"org\">org_c</span>"));
}

async fn the_switch_leads_to_another_organization_and_to_nothing_of_the_one_before(world: World) {
    let browser = world.sign_in().await;
    assert!(!browser.page("/").await.contains("action=\"/organization\""), "there is one organization");
    let other = Tenant::org("org_b".parse().unwrap());
    world.app_of(&other, "theirs").await;
    let app = world.app("ours").await;
    let message = world.message(&app, "invoice.paid", "{}", world.now).await;
    let path = format!("/applications/{}/messages/{}", app.id, message.id);
    assert_eq!(browser.get(&path).await.0, StatusCode::OK);
    let csrf = csrf(&browser, "/").await;
    let wrong = [("csrf", "A".repeat(43)), ("org", "org_b".into())];
    assert_eq!(browser.post("/organization", &wrong).await.status(), StatusCode::FORBIDDEN);
    let switched = browser.post("/organization", &[csrf.clone(), ("org", "org_b".into())]).await;
    assert_eq!(location(&switched), "/");
    assert_eq!(browser.get(&path).await.0, StatusCode::NOT_FOUND);
    assert!(!browser.page("/audit").await.contains(">signed in</td>"), "each has its own log");
    for (field, org, wanted) in [
        ("other", "org_nothing", "/?notice=no-organization"),
        ("other", "nonsense", "/?notice=no-organization"),
        ("other", "org_default", "/"),
    ] {
        let form = [csrf.clone(), ("org", "org_b".into()), (field, org.into())];
        assert_eq!(location(&browser.post("/organization", &form).await), wanted, "{org}");
    }
    assert_eq!(browser.get(&path).await.0, StatusCode::OK);
}

async fn a_key_is_shown_once(world: World) {
    let browser = world.sign_in().await;
    assert!(browser.page("/keys").await.contains("No API keys yet"));
    let csrf = csrf(&browser, "/keys").await;
    let form = |name: &str, scopes: &[&str], life: &str| {
        let mut form = vec![csrf.clone(), ("name", name.to_owned()), ("life", life.to_owned())];
        form.extend(scopes.iter().map(|scope| ("scope", (*scope).to_owned())));
        form
    };
    for (name, scopes, life, why) in [
        ("", &["read"][..], "never", "must have 1 to 256"),
        ("billing", &[], "never", "choose at least one"),
        ("billing", &["fly"], "never", "choose at least one"),
        ("billing", &["read"], "1000d", "choose one of the options"),
    ] {
        let response = browser.post("/keys", &form(name, scopes, life)).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let page = response.text().await.unwrap();
        crate::html::check(&page, "/keys");
        assert!(page.contains(why), "{why}: {page}");
    }
    let response = browser.post("/keys", &form("billing", &["read", "send"], "30d")).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["cache-control"], "no-store");
    let page = response.text().await.unwrap();
    crate::html::check(&page, "/keys");
    let text = page.split("data-copy").nth(1).unwrap().split('>').nth(1).unwrap().split('<').next().unwrap();
    let made = world.store.api_key_by_hash(&api_key::hash(text)).await.unwrap().expect("the key that is shown");
    assert_eq!((made.name.as_str(), made.scopes.to_string()), ("billing", "read, send".to_owned()));
    assert!(made.expires_at.is_some_and(|at| at > world.now));

    let list = browser.page("/keys").await;
    assert!(list.contains(&format!("sk_…{}", made.hint)) && !list.contains(text) && list.contains("read, send"));
    let ask = format!("/keys/{}", made.id);
    let button = format!("Revoke <bdi>billing (…{})</bdi></button>", made.hint);
    assert!(browser.page(&ask).await.contains(&button));
    let revoke = format!("{ask}/revoke");
    assert_eq!(browser.post(&revoke, &[("csrf", "A".repeat(43))]).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(world.store.api_key(&world.tenant(), made.id).await.unwrap().unwrap().revoked_at, None);
    assert_eq!(location(&browser.post(&revoke, std::slice::from_ref(&csrf)).await), "/keys?notice=key-revoked");
    assert!(world.store.api_key(&world.tenant(), made.id).await.unwrap().unwrap().revoked_at.is_some());
    assert!(browser.page(&ask).await.contains("is no longer valid") && browser.page("/keys").await.contains("revoked"));

    world.app_of(&Tenant::org("org_b".parse().unwrap()), "theirs").await;
    browser.post("/organization", &[csrf.clone(), ("org", "org_b".into())]).await;
    assert_eq!(browser.get(&ask).await.0, StatusCode::NOT_FOUND);
    assert_eq!(browser.post(&revoke, std::slice::from_ref(&csrf)).await.status(), StatusCode::NOT_FOUND);
}

async fn the_log_is_filtered_and_turned_over(world: World) {
    for n in 0..120 {
        let who = if n % 40 == 0 { "<script>alert(1)</script>\u{202e}" } else { "ci (…3f9a)" };
        let store = world.store.by(Actor::new(ActorKind::Key, who));
        let (act, thing) = (if n == 7 { "secret revealed" } else { "endpoint changed" }, format!("thing{n:03}"));
        store.write_audit_entry(NewAuditEntry::of(&world.org, act, &thing), world.now).await.unwrap();
    }
    let browser = world.sign_in().await;
    let things = |page: &str| -> Vec<String> {
        page.split("thing")
            .skip(1)
            .filter_map(|rest| rest.get(..3))
            .filter(|n| n.bytes().all(|b| b.is_ascii_digit()))
            .map(str::to_owned)
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect()
    };
    let link = |page: &str, name: &str| -> Option<String> {
        let before = page.split(&format!("\">{name}</a>")).next().filter(|before| before.len() < page.len())?;
        Some(before.rsplit("href=\"").next()?.replace("&#38;", "&").replace("&amp;", "&"))
    };
    let first = browser.page("/audit").await;
    assert_eq!((things(&first).len(), link(&first, "Newer")), (49, None), "beside the sign-in");
    let second = browser.page(&link(&first, "Older").unwrap()).await;
    let third = browser.page(&link(&second, "Older").unwrap()).await;
    assert_eq!((things(&second).len(), things(&third).len(), link(&third, "Older")), (50, 21, None));
    let back = browser.page(&link(&third, "Newer").unwrap()).await;
    assert_eq!(things(&back), things(&second));
    assert_eq!(things(&browser.page("/audit?act=secret+revealed").await), ["007"]);
    let hostile = browser.page("/audit?who=%3Cscript%3Ealert(1)%3C/script%3E%E2%80%AE").await;
    assert_eq!(things(&hostile), ["000", "040", "080"], "{hostile}");
    assert!(browser.page("/audit?who=nobody&act=signed+in").await.contains("No matching entries"));
    for odd in ["?act=%00", "?who=%00", "?after=nonsense", "?before=nonsense&after="] {
        browser.page(&format!("/audit{odd}")).await;
    }
}
