//! What belongs to an operator's account: the second factor, the sessions, links that set a new password.

use std::sync::LazyLock;

use sendoff::domain::access::audit::{Actor, ActorKind};
use sendoff::domain::access::oidc::OidcIdentity;
use sendoff::domain::access::operator::{Operator, OperatorRole};
use sendoff::domain::access::password::PasswordHash;
use sendoff::domain::access::totp::TotpSecret;
use sendoff::domain::signing::master_key::MasterKey;
use sendoff::domain::{OperatorId, OrgId};
use sendoff::store::StoreError;
use sendoff::store::access::operator_sessions::{NewSession, PasswordSignIn, SessionClient};
use sendoff::store::access::operators::AccountChange;
use sendoff::store::access::second_factors::{NewSecondFactor, SecondFactorProof};

use crate::home::*;
use crate::support::on_both;
use crate::support::sources::texts;

/// Two passwords, worked out once.
static HASHES: LazyLock<[PasswordHash; 2]> = LazyLock::new(|| {
    ["correct horse battery", "another good password"].map(|text| PasswordHash::make("p", text).expect("a password"))
});

on_both! {
    a_second_factor_is_kept_sealed_and_its_codes_work_once
    sessions_are_listed_and_ended_by_their_owners
    an_account_has_a_bounded_number_of_sessions
    a_reset_link_works_once_and_for_an_hour
    an_identity_keeps_its_account_and_sets_its_role
}

/// A session that is opened elsewhere would miss its bound or its audit entry.
#[test]
fn one_function_opens_sessions() {
    assert_eq!(texts("src").matches("INSERT INTO session ").count(), 1);
}

fn from() -> OrgId {
    OrgId::default_org()
}

async fn account(home: &Home, name: &str) -> Operator {
    let operator = Operator::new(name, OperatorRole::Viewer, None, NOW).unwrap();
    home.store.create_operator(&from(), &operator, &HASHES[0], NOW).await.unwrap();
    operator
}

fn factor(secret: &[u8; 20], used: i64, codes: &[u8]) -> NewSecondFactor {
    let secret = TotpSecret::from_bytes(secret).unwrap();
    NewSecondFactor { secret, used, recovery_codes: codes.iter().map(|n| [*n; 32]).collect() }
}

async fn a_second_factor_is_kept_sealed_and_its_codes_work_once(home: Home) {
    let store = &home.store;
    let anna = account(&home, "anna").await;
    let new = factor(b"12345678901234567890", 10, &[1, 2, 3]);
    assert_eq!(store.second_factor(anna.id).await.unwrap(), None);
    let keep = [9; 32];
    for n in [8, 9] {
        assert!(
            store.open_session(by_password(&anna, &HASHES[0]), new_session(&[n; 32], later(60)), NOW).await.unwrap()
        );
    }
    assert!(
        !store.add_second_factor(own_change(&from(), &anna, &HASHES[1], &keep), &new, NOW).await.unwrap(),
        "another password"
    );
    assert!(store.add_second_factor(own_change(&from(), &anna, &HASHES[0], &keep), &new, later(1)).await.unwrap());
    assert!(
        !store.add_second_factor(own_change(&from(), &anna, &HASHES[0], &keep), &new, NOW).await.unwrap(),
        "there is one"
    );
    let found = store.second_factor(anna.id).await.unwrap().unwrap();
    assert_eq!((found.secret, found.used, found.since, found.recovery_codes), (new.secret, 10, later(1), 3));
    assert!(store.operator(anna.id).await.unwrap().unwrap().second_factor);
    let is_open = async |n: u8| store.session(&[n; 32], NOW).await.unwrap().is_some();
    assert_eq!((is_open(8).await, is_open(9).await), (false, true));

    let enter = async |second: SecondFactorProof, n: u8| {
        let sign_in = PasswordSignIn { operator: &anna, password: &HASHES[0], second: &second };
        store.open_session(sign_in, new_session(&[n; 32], later(60)), NOW).await.unwrap()
    };
    assert!(!enter(SecondFactorProof::NotNeeded, 20).await, "the password alone");
    assert!(!enter(SecondFactorProof::Code(10), 21).await, "the code that confirmed it");
    assert!(enter(SecondFactorProof::Code(11), 22).await && !enter(SecondFactorProof::Code(11), 23).await);
    assert!(!enter(SecondFactorProof::Code(9), 24).await, "an older one");
    assert!(enter(SecondFactorProof::Recovery([2; 32]), 25).await);
    assert!(
        !enter(SecondFactorProof::Recovery([2; 32]), 26).await
            && !enter(SecondFactorProof::Recovery([7; 32]), 27).await
    );
    let mut opened = Vec::new();
    for n in 20..28 {
        opened.extend(is_open(n).await.then_some(n));
    }
    assert_eq!(opened, [22, 25]);

    assert!(store.replace_recovery_codes(&from(), &anna, &[[5; 32]], NOW).await.unwrap());
    assert_eq!(store.second_factor(anna.id).await.unwrap().unwrap().recovery_codes, 1);
    assert!(
        !enter(SecondFactorProof::Recovery([1; 32]), 30).await && enter(SecondFactorProof::Recovery([5; 32]), 31).await
    );
    // What another master key has sealed does not open.
    let other = MasterKey::generate();
    let elsewhere = open(&home.location, &other).await;
    assert!(elsewhere.second_factor(anna.id).await.is_err());

    let audited = store.by(Actor::new(ActorKind::Command, "test"));
    assert!(audited.remove_second_factor(&from(), &anna, NOW).await.unwrap());
    assert!(!audited.remove_second_factor(&from(), &anna, NOW).await.unwrap());
    assert!(!audited.replace_recovery_codes(&from(), &anna, &[[6; 32]], NOW).await.unwrap());
    assert_eq!(store.second_factor(anna.id).await.unwrap(), None);
    assert!(enter(SecondFactorProof::NotNeeded, 40).await && !enter(SecondFactorProof::Code(99), 41).await);
    assert!(!enter(SecondFactorProof::Recovery([6; 32]), 42).await);
}

async fn sessions_are_listed_and_ended_by_their_owners(home: Home) {
    let store = &home.store;
    let (anna, bert) = (account(&home, "anna").await, account(&home, "bert").await);
    let client = SessionClient { agent: format!("Browser\0{}", "x".repeat(300)), address: "192.0.2.1".into() };
    for (who, n, at) in [(&anna, 1, 1), (&anna, 2, 2), (&bert, 3, 3)] {
        let new = NewSession { hash: &[n; 32], client: &client, until: later(60) };
        assert!(store.open_session(by_password(who, &HASHES[0]), new, later(at)).await.unwrap());
    }
    store.add_login_link(&[7; 32], &from(), later(60)).await.unwrap();
    store.redeem_login_link(&[7; 32], new_session(&[4; 32], later(50)), later(4)).await.unwrap().unwrap();
    let list = async |of: Option<OperatorId>, at| {
        let found = store.open_sessions(of, 10, later(at)).await.unwrap();
        found.into_iter().map(|one| (one.hash[0], one.name)).collect::<Vec<_>>()
    };
    let named = |n: u8, name: &str| (n, Some(name.to_owned()));
    assert_eq!(list(None, 5).await, [(4, None), named(3, "bert"), named(2, "anna"), named(1, "anna")]);
    assert_eq!(list(Some(anna.id), 5).await, [named(2, "anna"), named(1, "anna")]);
    assert_eq!(list(None, 55).await.len(), 3, "one has ended");
    let listed = store.open_sessions(Some(bert.id), 10, NOW).await.unwrap().remove(0);
    assert_eq!((listed.since, listed.until), (later(3), later(60)));
    assert_eq!((listed.client.agent.chars().count(), listed.client.address.as_str()), (200, "192.0.2.1"));
    assert!(!listed.client.agent.contains('\0'));
    assert_eq!(store.open_sessions(None, 2, NOW).await.unwrap().len(), 2, "so many at most");

    assert!(!store.revoke_session(&from(), Some(anna.id), &[3; 32], NOW).await.unwrap(), "another's");
    assert!(store.revoke_session(&from(), Some(anna.id), &[1; 32], NOW).await.unwrap());
    assert!(!store.revoke_session(&from(), Some(anna.id), &[1; 32], NOW).await.unwrap(), "ended");
    assert!(store.revoke_session(&from(), None, &[4; 32], NOW).await.unwrap(), "an admin ends any");
    for n in [5, 6] {
        assert!(
            store.open_session(by_password(&anna, &HASHES[0]), new_session(&[n; 32], later(60)), NOW).await.unwrap()
        );
    }
    store.end_other_sessions(&from(), &anna, &[5; 32], NOW).await.unwrap();
    assert_eq!(list(None, 5).await, [named(3, "bert"), named(5, "anna")]);
}

async fn an_account_has_a_bounded_number_of_sessions(home: Home) {
    let anna = account(&home, "anna").await;
    for n in 0..=100_u8 {
        let opened = home
            .store
            .open_session(by_password(&anna, &HASHES[0]), new_session(&[n; 32], later(900)), later(u64::from(n)))
            .await;
        assert!(opened.unwrap());
    }
    let open = home.store.open_sessions(Some(anna.id), 200, NOW).await.unwrap();
    assert_eq!((open.len(), open.last().unwrap().hash), (100, [1; 32]), "the oldest has ended");
}

async fn a_reset_link_works_once_and_for_an_hour(home: Home) {
    let store = &home.store;
    let (anna, bert) = (account(&home, "anna").await, account(&home, "bert").await);
    for (who, n) in [(&anna, 1), (&bert, 2)] {
        assert!(
            store.open_session(by_password(who, &HASHES[0]), new_session(&[n; 32], later(9_000)), NOW).await.unwrap()
        );
    }
    let named = async |n: u8, at| store.password_reset(&[n; 32], later(at)).await.unwrap().map(|one| one.name);
    assert!(store.add_password_reset(&from(), &anna, &[10; 32], NOW).await.unwrap());
    assert_eq!((named(10, 3_599).await.as_deref(), named(10, 3_600).await), (Some("anna"), None));
    assert!(store.add_password_reset(&from(), &anna, &[11; 32], NOW).await.unwrap());
    assert_eq!((named(10, 0).await, named(11, 0).await.as_deref()), (None, Some("anna")), "the newest alone");
    assert!(!store.reset_password(&from(), &[10; 32], &HASHES[1], NOW).await.unwrap());
    assert!(!store.reset_password(&from(), &[11; 32], &HASHES[1], later(3_600)).await.unwrap(), "too late");
    assert!(store.reset_password(&from(), &[11; 32], &HASHES[1], later(3_599)).await.unwrap());
    assert!(!store.reset_password(&from(), &[11; 32], &HASHES[0], NOW).await.unwrap(), "once");
    assert!(store.operator_named("anna").await.unwrap().unwrap().1.verify("another good password"));
    assert!(store.operator_named("bert").await.unwrap().unwrap().1.verify("correct horse battery"));
    let is_open = async |n: u8| store.session(&[n; 32], NOW).await.unwrap().is_some();
    assert_eq!((is_open(1).await, is_open(2).await), (false, true));
    assert!(store.add_password_reset(&from(), &bert, &[12; 32], NOW).await.unwrap());
    assert_eq!(store.remove_operator(&from(), bert.id, NOW).await.unwrap(), AccountChange::Done);
    assert_eq!(named(12, 0).await, None, "gone with the account");
    assert!(!store.add_password_reset(&from(), &bert, &[13; 32], NOW).await.unwrap());
}

async fn an_identity_keeps_its_account_and_sets_its_role(home: Home) {
    let store = &home.store;
    account(&home, "bert").await;
    let who = |subject: &str, name: &str, role| OidcIdentity {
        issuer: "https://login.example".into(),
        subject: subject.into(),
        name: name.into(),
        role,
    };
    let enter =
        async |who: OidcIdentity, n: u8| store.sign_in_by_oidc(&who, new_session(&[n; 32], later(60)), NOW).await;
    let of = async |n: u8| store.session(&[n; 32], NOW).await.unwrap().and_then(|session| session.operator);
    enter(who("1", "anna", OperatorRole::Viewer), 1).await.unwrap();
    enter(who("1", "another name", OperatorRole::Admin), 2).await.unwrap();
    let (first, second) = (of(1).await.unwrap(), of(2).await.unwrap());
    assert_eq!((&first, first.name.as_str(), first.role), (&second, "anna", OperatorRole::Admin), "one account");
    assert!(!first.has_password && first.orgs.is_none());
    let elsewhere = OidcIdentity { issuer: "https://other.example".into(), ..who("1", "carl", OperatorRole::Viewer) };
    enter(elsewhere, 3).await.unwrap();
    assert_ne!(of(3).await.unwrap().id, first.id, "another provider's");
    let taken = enter(who("2", "bert", OperatorRole::Admin), 4).await;
    assert!(matches!(taken, Err(StoreError::Taken(_))), "{taken:?}");
    assert_eq!(of(4).await, None);
    let nobodys = PasswordHash::dummy();
    let sign_in = by_password(&first, &nobodys);
    let opened = store.open_session(sign_in, new_session(&[5; 32], later(60)), NOW).await.unwrap();
    assert!(!opened, "it has no password");
    assert!(!store.add_password_reset(&from(), &first, &[6; 32], NOW).await.unwrap());
    assert!(store.any_passwords().await.unwrap());
}
