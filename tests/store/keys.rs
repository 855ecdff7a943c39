//! Login links and sessions, links into the portal.

use sendoff::domain::access::portal::{Capability, PortalLink, PortalOptions};
use sendoff::store::access::portal_sessions::PortalSession;

use crate::home::*;
use crate::support::on_both;

const LINK: [u8; 32] = [1; 32];
const SESSION: [u8; 32] = [2; 32];

on_both! {
    a_link_into_the_portal_is_good_once
    a_portal_session_lasts_as_long_as_its_link_says_and_its_application
    a_link_opens_one_session_once
    a_session_ends_by_time_or_by_hand
}

async fn a_link_into_the_portal_is_good_once(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let options = PortalOptions {
        feature_flags: strings(&["beta"]),
        capabilities: Some(vec![Capability::ViewBase, Capability::ManageEndpoint]),
        session_id: Some("s-1".into()),
        ..PortalOptions::all(later(3_600).micros())
    };
    let link = PortalLink { org: tenant().org, app_id: app.id, options, expires_at: later(60) };
    let plain = PortalOptions::all(later(3_600).micros());
    let plain = PortalLink { options: plain, ..link.clone() };
    for (n, link) in [(1, &link), (2, &plain), (3, &plain)] {
        store.add_portal_link(&[n; 32], link, NOW).await.unwrap();
    }
    let of = |link: &PortalLink| PortalSession {
        org: link.org.clone(),
        app_id: link.app_id,
        app_name: app.name.clone(),
        options: link.options.clone(),
        expires_at: later(3_600),
    };
    assert_eq!(store.redeem_portal_link(&[4; 32], &[9; 32], NOW).await.unwrap(), None);
    assert_eq!(store.redeem_portal_link(&[2; 32], &[9; 32], later(60)).await.unwrap(), None, "too late");
    assert_eq!(store.valid_portal_link(&[2; 32], later(60)).await.unwrap(), None);
    let good = store.valid_portal_link(&[2; 32], later(59)).await.unwrap().expect("looking does not use it up");
    assert_eq!((good.app_name, good.options), (app.name.clone(), plain.options.clone()));
    assert_eq!(store.redeem_portal_link(&[2; 32], &[9; 32], later(59)).await.unwrap(), Some(of(&plain)));
    let redeemed = (0..8).map(|n| async move { store.redeem_portal_link(&[1; 32], &[20 + n; 32], NOW).await.unwrap() });
    let redeemed = futures_util::future::join_all(redeemed).await;
    assert_eq!(redeemed.into_iter().flatten().collect::<Vec<_>>(), [of(&link)], "once, however many try");
    assert_eq!(home.number("SELECT count(*) FROM visit").await, 2);
    store.delete_expired_logins(later(59)).await.unwrap();
    assert_eq!(home.number("SELECT count(*) FROM portal_link").await, 1);
    store.delete_expired_logins(later(60)).await.unwrap();
    assert_eq!(home.number("SELECT count(*) FROM portal_link").await, 0);
}

async fn a_portal_session_lasts_as_long_as_its_link_says_and_its_application(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let options = PortalOptions::all(later(3_600).micros());
    for n in 1..=3 {
        let link = PortalLink { org: tenant().org, app_id: app.id, options: options.clone(), expires_at: later(60) };
        store.add_portal_link(&[n; 32], &link, NOW).await.unwrap();
        if n < 3 {
            store.redeem_portal_link(&[n; 32], &[n + 10; 32], NOW).await.unwrap().expect("a session");
        }
    }
    assert_eq!(store.portal_session(&[11; 32], later(3_599)).await.unwrap().unwrap().app_id, app.id);
    assert_eq!(store.portal_session(&[11; 32], later(3_600)).await.unwrap(), None, "over");
    assert_eq!(store.portal_session(&[1; 32], NOW).await.unwrap(), None, "a link is no visit");
    store.end_portal_session(&[11; 32]).await.unwrap();
    assert_eq!(store.portal_session(&[11; 32], NOW).await.unwrap(), None, "left");
    store.delete_application(&tenant(), app.id, NOW).await.unwrap();
    assert_eq!(store.portal_session(&[12; 32], NOW).await.unwrap(), None, "its application is gone");
    assert_eq!(store.valid_portal_link(&[3; 32], NOW).await.unwrap(), None, "and so is where the link led");
    assert_eq!(store.redeem_portal_link(&[3; 32], &[13; 32], NOW).await.unwrap(), None);
    store.delete_expired_logins(later(3_600)).await.unwrap();
    assert_eq!(home.number("SELECT count(*) FROM visit").await, 0);
}

async fn a_link_opens_one_session_once(home: Home) {
    let store = &home.store;
    let org = org("org_team");
    store.add_login_link(&LINK, &org, later(60)).await.unwrap();
    assert!(store.is_login_link_valid(&LINK, later(59)).await.unwrap(), "looking does not use it up");
    assert!(!store.is_login_link_valid(&LINK, later(60)).await.unwrap());
    assert!(!store.is_login_link_valid(&SESSION, NOW).await.unwrap());
    assert_eq!(store.redeem_login_link(&SESSION, new_session(&LINK, later(600)), NOW).await.unwrap(), None);
    let redeemed = futures_util::future::join_all((0..8u8).map(|n| {
        let session = [n + 10; 32];
        async move { store.redeem_login_link(&LINK, new_session(&session, later(600)), later(59)).await.unwrap() }
    }))
    .await;
    assert_eq!(redeemed.into_iter().flatten().collect::<Vec<_>>(), [org], "once, however many try");
    assert!(!store.is_login_link_valid(&LINK, NOW).await.unwrap());
    assert_eq!(home.number("SELECT count(*) FROM session").await, 1);
}

async fn a_session_ends_by_time_or_by_hand(home: Home) {
    let store = &home.store;
    for n in 1..=2 {
        store.add_login_link(&[n; 32], &org("org_team"), later(60)).await.unwrap();
        store.redeem_login_link(&[n; 32], new_session(&[n + 10; 32], later(100)), NOW).await.unwrap();
    }
    store.add_login_link(&LINK, &org("org_team"), later(60)).await.unwrap();
    assert_eq!(
        store.redeem_login_link(&LINK, new_session(&SESSION, later(600)), later(60)).await.unwrap(),
        None,
        "too late"
    );
    let whose = async |n, at| store.session(&[n; 32], at).await.unwrap().map(|session| session.org);
    assert_eq!(whose(11, later(99)).await, Some(org("org_team")));
    assert_eq!(whose(11, later(100)).await, None);
    store.end_session(&[11; 32], NOW).await.unwrap();
    assert_eq!((whose(11, NOW).await, whose(12, NOW).await), (None, Some(org("org_team"))));
    store.delete_expired_logins(later(60)).await.unwrap();
    assert_eq!(home.number("SELECT count(*) FROM login_link").await, 0);
    assert_eq!(whose(12, NOW).await, Some(org("org_team")));
    store.delete_expired_logins(later(100)).await.unwrap();
    assert_eq!(home.number("SELECT count(*) FROM session").await, 0);
}
