//! Endpoints and their secrets, at rest and in use.

use std::collections::BTreeMap;
use std::time::Duration;

use sendoff::domain::backoff::Schedule;
use sendoff::domain::endpoint::{DisabledReason, EndpointSpec};
use sendoff::domain::event_type::EventTypeSpec;
use sendoff::domain::secret::{Secret, SignatureType};
use sendoff::domain::signature::{ExtraSignature, Signing};
use sendoff::domain::{AppId, EndpointId};
use sendoff::store::{EndpointRef, Store, StoreError, Tenant};

use crate::home::*;

async fn full_spec(store: &Store) -> EndpointSpec {
    for name in ["invoice.paid", "invoice.sent"] {
        let spec = EventTypeSpec { name: name.into(), ..EventTypeSpec::default() };
        store.put_event_type(&tenant(), spec, NOW).await.unwrap();
    }
    EndpointSpec {
        uid: Some(uid("hook")),
        url: "https://example.com/Ünïcode?q=%27".into(),
        description: "the 'main' one ☂".into(),
        disabled: true,
        event_types: Some(strings(&["invoice.paid", "invoice.sent"])),
        channels: Some(strings(&["x", "y"])),
        throttle_rate: Some(50),
        timeout: Some(Duration::from_secs(7)),
        retry_schedule: Some(Schedule::new("s", vec![Duration::from_millis(1_500), Duration::ZERO]).unwrap()),
        signature_type: SignatureType::Ed25519,
        extra_signatures: vec![ExtraSignature::Svix],
        headers: BTreeMap::from([("authorization".into(), "Bearer s3cret-value".into())]),
        metadata: BTreeMap::from([("k".into(), "v".into())]),
    }
}

on_both! {
    async fn an_endpoint_comes_back_as_it_was_made(home) {
        let store = &home.store;
        let app = application(store, "acme").await;
        let spec = full_spec(store).await;
        let made = endpoint(store, app.id, spec.clone()).await;
        assert_eq!((&made.spec, made.disabled_reason), (&spec, Some(DisabledReason::Manual)));
        for name in [EndpointRef::Id(made.id), EndpointRef::Uid(uid("hook"))] {
            assert_eq!(store.endpoint(&tenant(), app.id, &name).await.unwrap().as_ref(), Some(&made));
        }
        let plain = endpoint(store, app.id, endpoint_spec()).await;
        assert_eq!(store.endpoints(&tenant(), app.id, &first()).await.unwrap().data, [made.clone(), plain.clone()]);

        let changed = store.update_endpoint(&tenant(), app.id, made.id, endpoint_spec(), later(5)).await.unwrap().unwrap();
        assert_eq!((changed.created_at, changed.updated_at, changed.disabled_reason), (NOW, later(5), None));
        assert_eq!(store.endpoint(&tenant(), app.id, &made.id.into()).await.unwrap(), Some(changed));
        assert!(store.delete_endpoint(&tenant(), app.id, made.id, NOW).await.unwrap());
        assert!(!store.delete_endpoint(&tenant(), app.id, made.id, NOW).await.unwrap());
        assert_eq!(store.endpoint(&tenant(), app.id, &made.id.into()).await.unwrap(), None);
        assert_eq!(store.endpoints(&tenant(), app.id, &first()).await.unwrap().data, [plain]);
    }

    async fn a_uid_is_taken_in_its_application_and_a_filter_names_what_is_in_the_catalog(home) {
        let store = &home.store;
        let (one, two) = (application(store, "one").await, application(store, "two").await);
        let spec = EndpointSpec { uid: Some(uid("hook")), ..endpoint_spec() };
        let made = endpoint(store, one.id, spec.clone()).await;
        let again = store.create_endpoint(&tenant(), one.id, spec.clone(), &secret(), NOW).await;
        assert!(matches!(&again, Err(StoreError::Taken(what)) if what.contains("hook")), "{again:?}");
        let other = endpoint(store, one.id, endpoint_spec()).await;
        let again = store.update_endpoint(&tenant(), one.id, other.id, spec.clone(), NOW).await;
        assert!(matches!(again, Err(StoreError::Taken(_))), "{again:?}");
        endpoint(store, two.id, spec.clone()).await;
        store.delete_endpoint(&tenant(), one.id, made.id, NOW).await.unwrap();
        endpoint(store, one.id, spec).await;

        let filtered = EndpointSpec { event_types: Some(strings(&["no.such"])), ..endpoint_spec() };
        let refused = store.create_endpoint(&tenant(), one.id, filtered.clone(), &secret(), NOW).await;
        assert!(matches!(&refused, Err(StoreError::Invalid(wrong)) if wrong[0].field == "eventTypes"), "{refused:?}");
        let refused = store.update_endpoint(&tenant(), one.id, other.id, filtered.clone(), NOW).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
        let strangers = EventTypeSpec { name: "no.such".into(), ..EventTypeSpec::default() };
        store.put_event_type(&stranger(), strangers, NOW).await.unwrap();
        let refused = store.create_endpoint(&tenant(), one.id, filtered, &secret(), NOW).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "another organization's catalog is not ours: {refused:?}");
    }

    async fn nobody_touches_what_is_another_tenants(home) {
        let store = &home.store;
        let (app, made) = customer(store, "mine").await;
        let sister = application(store, "sister").await;
        for (who, of) in [
            (stranger(), app.id),
            (Tenant { only: Some(sister.id), ..tenant() }, app.id),
            (tenant(), sister.id),
            (tenant(), AppId::new(NOW)),
        ] {
            assert_eq!(store.endpoint(&who, of, &made.id.into()).await.unwrap(), None);
            assert!(!store.endpoints(&who, of, &first()).await.unwrap().data.iter().any(|one| one.id == made.id));
            assert_eq!(store.update_endpoint(&who, of, made.id, endpoint_spec(), NOW).await.unwrap(), None);
            assert!(!store.delete_endpoint(&who, of, made.id, NOW).await.unwrap());
            assert!(store.endpoint_secret(&who, of, made.id).await.unwrap().is_none());
            assert!(!store.rotate_secret(&who, of, made.id, &secret(), Duration::ZERO, NOW).await.unwrap());
            if who != tenant() || of != sister.id {
                let made = store.create_endpoint(&who, of, endpoint_spec(), &secret(), NOW).await;
                assert!(matches!(made, Err(StoreError::Invalid(_))), "{made:?}");
            }
        }
        store.delete_application(&tenant(), app.id, NOW).await.unwrap();
        assert_eq!(store.endpoint(&tenant(), app.id, &made.id.into()).await.unwrap(), None, "gone with its application");
        let made = store.create_endpoint(&tenant(), app.id, endpoint_spec(), &secret(), NOW).await;
        assert!(matches!(made, Err(StoreError::Invalid(_))), "{made:?}");
    }

    async fn a_rotation_leaves_the_old_secret_signing_for_its_grace(home) {
        let store = &home.store;
        let app = application(store, "acme").await;
        let keys = [secret(), secret(), Secret::generate(SignatureType::Ed25519)];
        let made = store.create_endpoint(&tenant(), app.id, endpoint_spec(), &keys[0], NOW).await.unwrap();
        let shown = async || store.endpoint_secret(&tenant(), app.id, made.id).await.unwrap().unwrap().text();
        assert_eq!(shown().await, keys[0].text());
        let hour = Duration::from_secs(3_600);
        assert!(store.rotate_secret(&tenant(), app.id, made.id, &keys[1], hour, later(1)).await.unwrap());
        assert!(store.rotate_secret(&tenant(), app.id, made.id, &keys[2], Duration::ZERO, later(2)).await.unwrap());
        assert_eq!(shown().await, keys[2].text());
        let live = home.another().await.live_endpoints(&[made.id]).await.unwrap().remove(0);
        let signing = live.signing.as_ref().unwrap();
        let signed = |at| {
            let text = signing.signature("msg_1", at, b"{}");
            let by = |key: &Secret| {
                let alone = Signing::new(key, [], &[]).signature("msg_1", at, b"{}");
                text.split(' ').any(|one| one == alone)
            };
            [by(&keys[0]), by(&keys[1]), by(&keys[2])]
        };
        assert_eq!(signed(later(3)), [true, false, true], "the first is in grace, the second was given none");
        assert_eq!(signed(later(3_602)), [false, false, true]);
    }

    async fn two_rotations_at_once_leave_one_current_secret(home) {
        let store = &home.store;
        let (app, made) = customer(store, "acme").await;
        let other = home.another().await;
        for round in 0..5 {
            let (one, two) = (secret(), secret());
            let hour = Duration::from_secs(3_600);
            let (first, second) = tokio::join!(
                async { store.rotate_secret(&tenant(), app.id, made.id, &one, hour, later(round * 10 + 1)).await },
                async { other.rotate_secret(&tenant(), app.id, made.id, &two, hour, later(round * 10 + 2)).await },
            );
            assert!(first.unwrap() && second.unwrap());
            assert_eq!(home.number("SELECT count(*) FROM endpoint_secret WHERE expires_at IS NULL").await, 1);
        }
    }

    async fn nothing_secret_lies_in_the_tables_as_it_is(home) {
        let store = &home.store;
        let app = application(store, "acme").await;
        let key = secret();
        let spec = full_spec(store).await;
        let made = store.create_endpoint(&tenant(), app.id, spec, &key, NOW).await.unwrap();
        store.rotate_secret(&tenant(), app.id, made.id, &secret(), Duration::from_secs(60), NOW).await.unwrap();
        let stored =
            [home.bytes("SELECT sealed FROM endpoint_secret").await, home.bytes("SELECT headers FROM endpoint").await]
                .concat();
        assert!(stored.len() > 100);
        let text = key.text();
        let raw = text.strip_prefix("whsec_").unwrap();
        for hidden in [raw.as_bytes(), b"s3cret-value", b"authorization", b"Bearer"] {
            assert!(!stored.windows(hidden.len()).any(|some| some == hidden), "{}", String::from_utf8_lossy(hidden));
        }
    }

    async fn what_does_nothing_but_fail_is_disabled(home) {
        let store = &home.store;
        let (app, failing) = customer(store, "acme").await;
        let well = endpoint(store, app.id, endpoint_spec()).await;
        let set = format!("UPDATE endpoint SET failing_since = {}", NOW.micros());
        home.execute(&set).await;
        let one = accept(store, app.id).await;
        let of_well = only_waiting(store, well.id).await;
        let done = finished(app.id, &of_well, answered(200), sendoff::domain::delivery::Next::Delivered);
        store.record(vec![done]).await.unwrap();
        assert_eq!(store.disable_failing(NOW, later(9)).await.unwrap(), [] as [EndpointId; 0], "not longer than that");
        assert_eq!(store.disable_failing(later(1), later(9)).await.unwrap(), [failing.id]);
        assert!(store.disable_failing(later(1), later(9)).await.unwrap().is_empty());
        let now = store.endpoint(&tenant(), app.id, &failing.id.into()).await.unwrap().unwrap();
        assert_eq!((now.spec.disabled, now.disabled_reason), (true, Some(DisabledReason::Failing)));
        assert_eq!(waiting(store, failing.id).await[0].message_id, one.id, "what is pending waits");
        accept(store, app.id).await;
        assert_eq!((waiting(store, failing.id).await.len(), waiting(store, well.id).await.len()), (1, 1));
        store.update_endpoint(&tenant(), app.id, failing.id, endpoint_spec(), NOW).await.unwrap();
        let forgiven = "SELECT count(*) FROM endpoint WHERE failing_since IS NULL";
        assert_eq!(home.number(forgiven).await, 2, "enabling begins anew");
    }
}
