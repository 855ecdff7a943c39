//! Changes that are worked out on what a thing is: those of two callers at the same time are both made.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use sendoff::domain::catalog::application::ApplicationSpec;
use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::catalog::event_type::EventTypeSpec;
use sendoff::store::catalog::change::UpdateResult;

use crate::home::*;
use crate::support::on_both;

/// How many callers change the same thing at once.
const AT_ONCE: usize = 8;

on_both! {
    changes_of_an_application_at_once_are_all_made
    changes_of_an_event_type_at_once_are_all_made
    a_change_of_an_endpoint_is_worked_out_anew_on_what_it_has_become
    the_store_says_whether_it_can_be_written
}

async fn changes_of_an_application_at_once_are_all_made(home: Home) {
    let app = application(&home.store, "acme").await;
    join_all((0..AT_ONCE).map(|number| {
        let (store, id) = (home.store.clone(), app.id);
        async move {
            let work = |before: &sendoff::domain::catalog::application::Application| {
                let mut metadata = before.metadata.clone();
                metadata.insert(number.to_string(), "here".into());
                Ok::<_, ()>(ApplicationSpec {
                    uid: before.uid.clone(),
                    name: before.name.clone(),
                    throttle_rate: before.throttle_rate,
                    metadata,
                    contact_email: before.contact_email.clone(),
                })
            };
            let changed = store.update_application(&tenant(), id, work, later(1)).await.unwrap();
            assert!(matches!(changed, UpdateResult::Updated(_)), "{changed:?}");
        }
    }))
    .await;
    let now = home.store.application(&tenant(), &app.id.into()).await.unwrap().unwrap();
    assert_eq!(now.metadata.len(), AT_ONCE);
    let refused = home.store.update_application(&tenant(), app.id, |_| Err("no"), later(2)).await.unwrap();
    assert_eq!(refused, UpdateResult::Aborted("no"));
    let of_others = home.store.update_application(&stranger(), app.id, |_| Err("asked"), later(2)).await.unwrap();
    assert_eq!(of_others, UpdateResult::NotFound, "another organization's is not even worked out");
}

async fn changes_of_an_event_type_at_once_are_all_made(home: Home) {
    let spec = EventTypeSpec { name: "a".into(), ..EventTypeSpec::default() };
    home.store.create_event_type(&tenant(), spec, NOW).await.unwrap();
    join_all((0..AT_ONCE).map(|number| {
        let store = home.store.clone();
        async move {
            let work = |before: &sendoff::domain::catalog::event_type::EventType| {
                let mut spec = before.spec.clone();
                spec.feature_flags.push(format!("flag{number}"));
                Ok::<_, ()>(spec)
            };
            let changed = store.update_event_type(&tenant(), "a", work, later(1)).await.unwrap();
            assert!(matches!(changed, UpdateResult::Updated(_)), "{changed:?}");
        }
    }))
    .await;
    let now = home.store.event_type(&tenant(), "a").await.unwrap().unwrap();
    assert_eq!(now.spec.feature_flags.len(), AT_ONCE);
    let gone = home.store.update_event_type(&tenant(), "b", |_| Err("asked"), later(2)).await.unwrap();
    assert_eq!(gone, UpdateResult::NotFound);
}

async fn a_change_of_an_endpoint_is_worked_out_anew_on_what_it_has_become(home: Home) {
    let (_, old) = customer(&home.store, "acme").await;
    let described = EndpointSpec { description: "changed meanwhile".into(), ..old.spec.clone() };
    updated(&home.store, &old, described, later(1)).await;
    let mut seen = Vec::new();
    let work = async |before: &sendoff::domain::catalog::endpoint::Endpoint| {
        seen.push(before.spec.description.clone());
        Ok::<_, ()>(EndpointSpec { disabled: true, ..before.spec.clone() })
    };
    let changed = home.store.change_endpoint(&tenant(), old, work, later(2)).await.unwrap();
    let UpdateResult::Updated(now) = changed else { panic!("{changed:?}") };
    assert_eq!(seen, ["", "changed meanwhile"]);
    assert!(now.spec.disabled && now.spec.description == "changed meanwhile", "both changes are there: {:?}", now.spec);
}

async fn the_store_says_whether_it_can_be_written(home: Home) {
    let now = Instant::now();
    home.store.writable(now).await.unwrap();
    let before = home.number("SELECT count(*) FROM application").await;
    home.store.writable(now + Duration::from_secs(2)).await.unwrap();
    assert_eq!(home.number("SELECT count(*) FROM application").await, before, "it writes nothing");
    if !home.is_sqlite() {
        home.execute("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$").await;
        let there = home.another().await;
        let refused = there.writable(now).await.unwrap_err().to_string();
        assert!(refused.contains("read-only"), "{refused}");
        home.store.writable(now + Duration::from_secs(2)).await.unwrap();
    }
}
