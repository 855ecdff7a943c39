//! Login links and sessions.

use crate::home::*;

const LINK: [u8; 32] = [1; 32];
const SESSION: [u8; 32] = [2; 32];

on_both! {
    async fn a_link_opens_one_session_once(home) {
        let store = &home.store;
        let org = org("org_team");
        store.add_login_link(&LINK, &org, later(60)).await.unwrap();
        assert!(store.login_link_good(&LINK, later(59)).await.unwrap(), "looking does not use it up");
        assert!(!store.login_link_good(&LINK, later(60)).await.unwrap());
        assert!(!store.login_link_good(&SESSION, NOW).await.unwrap());
        assert_eq!(store.redeem_login_link(&SESSION, &LINK, NOW, later(600)).await.unwrap(), None);
        let redeemed = futures_util::future::join_all((0..8u8).map(|n| {
            let session = [n + 10; 32];
            async move { store.redeem_login_link(&LINK, &session, later(59), later(600)).await.unwrap() }
        }))
        .await;
        assert_eq!(redeemed.into_iter().flatten().collect::<Vec<_>>(), [org], "once, however many try");
        assert!(!store.login_link_good(&LINK, NOW).await.unwrap());
        assert_eq!(home.number("SELECT count(*) FROM session").await, 1);
    }

    async fn a_session_ends_by_time_or_by_hand(home) {
        let store = &home.store;
        for n in 1..=2 {
            store.add_login_link(&[n; 32], &org("org_team"), later(60)).await.unwrap();
            store.redeem_login_link(&[n; 32], &[n + 10; 32], NOW, later(100)).await.unwrap();
        }
        store.add_login_link(&LINK, &org("org_team"), later(60)).await.unwrap();
        assert_eq!(store.redeem_login_link(&LINK, &SESSION, later(60), later(600)).await.unwrap(), None, "too late");
        let whose = async |n, at| store.session(&[n; 32], at).await.unwrap();
        assert_eq!(whose(11, later(99)).await, Some(org("org_team")));
        assert_eq!(whose(11, later(100)).await, None);
        store.end_session(&[11; 32]).await.unwrap();
        assert_eq!((whose(11, NOW).await, whose(12, NOW).await), (None, Some(org("org_team"))));
        store.forget_logins(later(60)).await.unwrap();
        assert_eq!(home.number("SELECT count(*) FROM login_link").await, 0);
        assert_eq!(whose(12, NOW).await, Some(org("org_team")));
        store.forget_logins(later(100)).await.unwrap();
        assert_eq!(home.number("SELECT count(*) FROM session").await, 0);
    }
}
