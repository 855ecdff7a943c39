//! Mails to contacts: written with what they tell, taken by one at a time, kept until the mail server has them or they
//! are given up.

use std::time::Duration;

use sendoff::domain::catalog::application::ApplicationSpec;
use sendoff::domain::notifications::mail::{LISTED, NoticeKind};
use sendoff::domain::{AppId, EndpointId, Time};
use sendoff::store::Store;
use sendoff::store::recording::mail::{Mail, MailOutcome};
use sendoff::store::recording::record::RecordOutcome;

use crate::failing::{attempt, failing, hour, judge};
use crate::home::*;
use crate::operational::gone;
use crate::support::on_both;

/// An endpoint that has failed for a day, of an application with this contact; nothing is warned of yet.
async fn failing_with(home: &crate::home::Home, uid_text: &str, contact: Option<&str>) -> (AppId, EndpointId) {
    let (app, id) = failing(&home.store, uid_text, 24).await;
    if let Some(contact) = contact {
        home.execute(&format!("UPDATE application SET contact_email = '{contact}' WHERE uid = '{uid_text}'")).await;
    }
    (app, id)
}

async fn count(home: &crate::home::Home) -> i64 {
    home.number("SELECT count(*) FROM mail").await
}

/// The leases' clock on PostgreSQL is the database's, which no test turns: they are ended by hand.
async fn leases_run_out(home: &crate::home::Home) {
    home.execute("UPDATE mail SET leased_until = 1 WHERE leased_until > 1").await;
}

async fn take(store: &Store, now: Time) -> Mail {
    store.lease_mail(now).await.unwrap().expect("a mail")
}

on_both! {
    nothing_is_written_where_no_mail_is_sent_or_nobody_is_named
    a_mail_names_the_endpoints_and_their_changes
    a_410_is_told_too
    one_sweep_writes_one_mail_for_an_application
    an_application_gets_one_mail_an_hour
    a_mail_lists_so_many_and_counts_the_others
    one_at_a_time_and_who_was_too_slow_changes_nothing
    rejected_mails_are_retried_or_given_up_and_deleted_later
}

async fn nothing_is_written_where_no_mail_is_sent_or_nobody_is_named(home: Home) {
    let store = &home.store;
    failing_with(&home, "acme", Some("ops@example.com")).await;
    assert_eq!(judge(store, 24).await.warned.len(), 1);
    assert_eq!(count(&home).await, 0, "no mail server was set");
    store.enable_mail();
    failing_with(&home, "beta", None).await;
    assert_eq!(judge(store, 24).await.warned.len(), 1);
    assert_eq!(count(&home).await, 0, "no contact");
    assert_eq!(store.lease_mail(NOW).await.unwrap(), None);
}

async fn a_mail_names_the_endpoints_and_their_changes(home: Home) {
    let store = &home.store;
    store.enable_mail();
    let spec = ApplicationSpec {
        name: "Acme\r\nBcc: all@example.com".into(),
        contact_email: Some("ops@example.com".into()),
        ..app_spec("acme")
    };
    let app = store.create_application(&tenant(), spec, NOW).await.unwrap().id;
    let mut urls = endpoint_spec();
    urls.url = "https://example.com:8443/hook?token=s3cret".into();
    let made = endpoint(store, app, urls).await.id;
    attempt(store, app, made, 500, 0).await;
    attempt(store, app, made, 404, 24).await;
    judge(store, 24).await;
    assert!(
        !String::from_utf8_lossy(
            &home
                .bytes(
                    home.either("SELECT CAST(letter AS BLOB) FROM mail", "SELECT convert_to(letter, 'UTF8') FROM mail")
                )
                .await
        )
        .contains("s3cret")
    );
    let mail = take(store, hour(24)).await;
    assert_eq!(
        (mail.app, mail.app_name.as_str(), mail.recipient.as_str()),
        (app, "Acme  Bcc: all@example.com", "ops@example.com")
    );
    assert_eq!((mail.attempts, mail.created_at, mail.letter.len()), (1, hour(24), 1));
    let notice = &mail.letter.notices[0];
    assert_eq!((notice.endpoint, notice.address.as_str()), (made, "example.com:8443/hook"));
    assert_eq!((notice.since, notice.what), (Some(hour(0)), NoticeKind::Failing { disable_at: hour(120) }));
    assert_eq!(notice.last, "it responded with 404: it does not accept events at this path");
    assert!(store.record_mail_outcome(&mail, &MailOutcome::Sent).await.unwrap());

    attempt(store, app, made, 503, 120).await;
    judge(store, 120).await;
    let mail = take(store, hour(120)).await;
    assert_eq!((mail.letter.notices[0].what, mail.letter.len()), (NoticeKind::Disabled, 1));
}

async fn a_410_is_told_too(home: Home) {
    let store = &home.store;
    store.enable_mail();
    let (app, made) = customer(store, "acme").await;
    home.execute("UPDATE application SET contact_email = 'ops@example.com'").await;
    accept(store, app.id).await;
    let one = gone(store, app.id, made.id).await;
    assert_eq!(store.record(vec![one.clone()]).await.unwrap(), [RecordOutcome::Applied]);
    assert_eq!(store.record(vec![one]).await.unwrap(), [RecordOutcome::Superseded]);
    let mail = take(store, later(60)).await;
    assert_eq!((mail.letter.len(), mail.letter.notices[0].what), (1, NoticeKind::Gone));
    assert_eq!(count(&home).await, 1);
}

async fn one_sweep_writes_one_mail_for_an_application(home: Home) {
    let store = &home.store;
    store.enable_mail();
    let app = application(store, "acme").await.id;
    home.execute("UPDATE application SET contact_email = 'ops@example.com'").await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(endpoint(store, app, endpoint_spec()).await.id);
    }
    for id in &ids {
        attempt(store, app, *id, 503, 0).await;
        attempt(store, app, *id, 503, 24).await;
    }
    failing_with(&home, "beta", Some("other@example.com")).await;
    assert_eq!(judge(store, 24).await.warned.len(), 4);
    assert_eq!(count(&home).await, 2);
    let (one, two) = (take(store, hour(24)).await, take(store, hour(24)).await);
    let of_acme = if one.app == app { one } else { two };
    let told: Vec<EndpointId> = of_acme.letter.notices.iter().map(|notice| notice.endpoint).collect();
    assert_eq!(told, ids);
}

/// What comes while a mail waits is added to it; after it was taken, to the next, an hour later at the earliest.
async fn an_application_gets_one_mail_an_hour(home: Home) {
    let store = &home.store;
    store.enable_mail();
    let (app, first_one) = failing_with(&home, "acme", Some("ops@example.com")).await;
    judge(store, 24).await;
    let new = async || {
        let id = endpoint(store, app, endpoint_spec()).await.id;
        attempt(store, app, id, 503, 0).await;
        attempt(store, app, id, 503, 24).await;
        assert_eq!(judge(store, 24).await.warned, [(id, 1)]);
        id
    };
    let second = new().await;
    assert_eq!(count(&home).await, 1, "it waits still");
    let mail = take(store, hour(24)).await;
    assert_eq!(mail.letter.notices.iter().map(|one| one.endpoint).collect::<Vec<_>>(), [first_one, second]);
    let third = new().await;
    let fourth = new().await;
    assert_eq!(count(&home).await, 2, "nothing is added to what was taken");
    store.record_mail_outcome(&mail, &MailOutcome::Sent).await.unwrap();
    assert_eq!(store.lease_mail(hour(25).minus(Duration::from_secs(1))).await.unwrap(), None);
    let mail = take(store, hour(25)).await;
    assert_eq!(mail.letter.notices.iter().map(|one| one.endpoint).collect::<Vec<_>>(), [third, fourth]);
    store.record_mail_outcome(&mail, &MailOutcome::Sent).await.unwrap();
    // Another contact is another mail.
    home.execute("UPDATE application SET contact_email = 'new@example.com'").await;
    new().await;
    assert_eq!(count(&home).await, 3);
    assert_eq!(take(store, hour(26)).await.recipient, "new@example.com");
}

async fn a_mail_lists_so_many_and_counts_the_others(home: Home) {
    let store = &home.store;
    store.enable_mail();
    let app = application(store, "acme").await;
    home.execute("UPDATE application SET contact_email = 'ops@example.com'").await;
    for _ in 0..LISTED + 2 {
        endpoint(store, app.id, endpoint_spec()).await;
    }
    for at in [0, 30] {
        let message = accept(store, app.id).await;
        let mut batch = Vec::new();
        for one in store.deliveries_of(&tenant(), app.id, message.id).await.unwrap().data {
            let one = waiting(store, one.endpoint_id).await.remove(0);
            let next = sendoff::domain::deliveries::delivery::Transition::Dead(
                sendoff::domain::deliveries::delivery::DeadReason::Exhausted,
            );
            let mut done = finished(app.id, &one, answered(503), next);
            done.attempt.at = hour(at);
            batch.push(done);
        }
        store.record(batch).await.unwrap();
    }
    while judge(store, 30).await.more {}
    let mail = take(store, hour(30)).await;
    assert_eq!((mail.letter.notices.len(), mail.letter.more), (LISTED, 2));
}

async fn one_at_a_time_and_who_was_too_slow_changes_nothing(home: Home) {
    let (store, other) = (&home.store, home.another().await);
    store.enable_mail();
    failing_with(&home, "acme", Some("ops@example.com")).await;
    judge(store, 24).await;
    let (one, two) = tokio::join!(store.lease_mail(NOW), other.lease_mail(NOW));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(one.is_some() != two.is_some(), "{one:?} {two:?}");
    let slow = one.or(two).unwrap();
    assert_eq!(other.lease_mail(NOW).await.unwrap(), None, "it is in somebody's hands");
    leases_run_out(&home).await;
    let next = take(&other, NOW).await;
    assert_eq!((next.id, next.attempts, &next.letter), (slow.id, 2, &slow.letter), "the same mail once more");
    let again = MailOutcome::Retry { due: later(60), failure: "too late".into() };
    assert!(!store.record_mail_outcome(&slow, &again).await.unwrap(), "another has it");
    assert!(
        store.record_mail_outcome(&slow, &MailOutcome::Sent).await.unwrap(),
        "that it was sent is true in any case"
    );
    assert!(!other.record_mail_outcome(&next, &MailOutcome::Sent).await.unwrap());
    leases_run_out(&home).await;
    assert_eq!(store.lease_mail(later(9_999)).await.unwrap(), None);
}

async fn rejected_mails_are_retried_or_given_up_and_deleted_later(home: Home) {
    let store = &home.store;
    store.enable_mail();
    failing_with(&home, "acme", Some("ops@example.com")).await;
    judge(store, 24).await;
    let mail = take(store, hour(24)).await;
    let again = MailOutcome::Retry { due: hour(26), failure: "451 later\0".into() };
    assert!(store.record_mail_outcome(&mail, &again).await.unwrap());
    assert_eq!(store.lease_mail(hour(25)).await.unwrap(), None);
    let much_later = later(400 * 86_400);
    assert_eq!(store.delete_old_mails(much_later, 10).await.unwrap(), 0, "it waits still");
    let mail = take(store, hour(26)).await;
    assert_eq!(mail.attempts, 2);
    assert!(
        store.record_mail_outcome(&mail, &MailOutcome::GivenUp { failure: "550 no such user".into() }).await.unwrap()
    );
    assert_eq!(store.lease_mail(later(60)).await.unwrap(), None);
    assert_eq!(home.number("SELECT count(*) FROM mail WHERE state = 2 AND failure = '550 no such user'").await, 1);
    assert_eq!(store.delete_old_mails(NOW.minus(Duration::from_secs(20 * 86_400)), 10).await.unwrap(), 0);
    assert_eq!((store.delete_old_mails(much_later, 10).await.unwrap(), count(&home).await), (1, 0));
}
