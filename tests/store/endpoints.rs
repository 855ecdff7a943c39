//! Endpoints and their secrets, at rest and in use.

use std::collections::BTreeMap;
use std::time::Duration;

use sendoff::domain::AppId;
use sendoff::domain::catalog::endpoint::{DisabledReason, Endpoint, EndpointSpec, HeaderChange};
use sendoff::domain::catalog::event_type::EventTypeSpec;
use sendoff::domain::deliveries::backoff::RetrySchedule;
use sendoff::domain::deliveries::delivery::{DeadReason, Transition};
use sendoff::domain::invalid::TOO_MANY;
use sendoff::domain::notifications::chat::{ChatFormat, ChatHook};
use sendoff::domain::signing::secret::{Secret, SignatureType};
use sendoff::domain::signing::signature::{ExtraSignature, Signing};
use sendoff::store::catalog::endpoint_update::OptimisticUpdate;
use sendoff::store::recording::record::FinishedAttempt;
use sendoff::store::{EndpointRef, Store, StoreError, Tenant};

use crate::home::*;
use crate::support::on_both;

async fn full_spec(store: &Store) -> EndpointSpec {
    for name in ["invoice.paid", "invoice.sent"] {
        let spec = EventTypeSpec { name: name.into(), ..EventTypeSpec::default() };
        store.put_event_type(&tenant(), spec, NOW).await.unwrap();
    }
    EndpointSpec {
        uid: Some(uid("hook")),
        url: "https://example.com/Ünïcode?q=%27".into(),
        chat: Some(ChatHook::new(ChatFormat::Discord, "https://example.com/s3cret-path".into())),
        description: "the 'main' one ☂".into(),
        disabled: true,
        event_types: Some(strings(&["invoice.paid", "invoice.sent"])),
        channels: Some(strings(&["x", "y"])),
        throttle_rate: Some(50),
        timeout: Some(Duration::from_secs(7)),
        retry_schedule: Some(RetrySchedule::new("s", vec![Duration::from_millis(1_500), Duration::ZERO]).unwrap()),
        ordered: true,
        signature_type: SignatureType::Ed25519,
        version: Some(7),
        extra_signatures: vec![ExtraSignature::Svix],
        headers: BTreeMap::from([("authorization".into(), "Bearer s3cret-value".into())]),
        metadata: BTreeMap::from([("k".into(), "v".into())]),
    }
}

on_both! {
    a_change_of_outdated_values_is_not_made
    headers_change_and_nothing_else_does
    an_endpoint_comes_back_as_it_was_made
    a_uid_is_taken_in_its_application_and_a_filter_names_what_is_in_the_catalog
    nobody_touches_what_is_another_tenants
    a_rotation_leaves_the_old_secret_signing_for_its_grace
    at_most_five_old_secrets_sign_along
    a_new_key_decides_how_the_endpoint_signs_and_the_old_one_signs_along
    two_rotations_at_once_leave_one_current_secret
    nothing_secret_lies_in_the_tables_as_it_is
}

async fn a_change_of_outdated_values_is_not_made(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    accept(store, app.id).await;
    // While somebody works out a change, the receiver answers 410, and the engine disables the endpoint.
    let refused =
        finished(app.id, &only_waiting(store, made.id).await, answered(410), Transition::Dead(DeadReason::Gone));
    store.record(vec![FinishedAttempt { disable: Some(DisabledReason::Gone), ..refused }]).await.unwrap();
    let described = EndpointSpec { description: "new".into(), ..made.spec.clone() };
    assert_eq!(store.update_endpoint(&tenant(), &made, described, later(1)).await.unwrap(), OptimisticUpdate::Stale);
    let stands = store.endpoint(&tenant(), app.id, &made.id.into()).await.unwrap().unwrap();
    assert_eq!((stands.disabled_reason, &*stands.spec.description), (Some(DisabledReason::Gone), ""));
    let described = EndpointSpec { description: "new".into(), ..stands.spec.clone() };
    let now = updated(store, &stands, described, later(2)).await;
    assert_eq!((now.disabled_reason, &*now.spec.description), (Some(DisabledReason::Gone), "new"));
    let none = HeaderChange::Replace(BTreeMap::new());
    store.change_headers(&tenant(), app.id, made.id, &none, later(3)).await.unwrap();
    let again = store.update_endpoint(&tenant(), &now, endpoint_spec(), later(4)).await.unwrap();
    assert_eq!(again, OptimisticUpdate::Stale, "the headers are part of it");
    store.delete_endpoint(&tenant(), app.id, made.id, later(5)).await.unwrap();
    assert_eq!(store.update_endpoint(&tenant(), &now, endpoint_spec(), NOW).await.unwrap(), OptimisticUpdate::NotFound);
}

async fn headers_change_and_nothing_else_does(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let made = endpoint(store, app.id, full_spec(store).await).await;
    let of = |list: &[(&str, &str)]| -> BTreeMap<String, String> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let merge = HeaderChange::Merge { set: of(&[("x-a", "1")]), delete: strings(&["AUTHORIZATION"]) };
    assert!(store.change_headers(&tenant(), app.id, made.id, &merge, later(5)).await.unwrap());
    let spec = EndpointSpec { headers: of(&[("x-a", "1")]), ..made.spec.clone() };
    let wanted = Endpoint { spec, updated_at: later(5), ..made.clone() };
    assert_eq!(store.endpoint(&tenant(), app.id, &made.id.into()).await.unwrap(), Some(wanted));
    let live = home.another().await.live_endpoints(&[made.id]).await.unwrap().remove(0);
    assert_eq!(live.endpoint.spec.headers, of(&[("x-a", "1")]));
    // Two at once: neither is lost.
    let other = home.another().await;
    for round in 0..5 {
        let (one, two) = (format!("x-one-{round}"), format!("x-two-{round}"));
        let set = |name: &str| HeaderChange::Merge { set: of(&[(name, "v")]), delete: vec![] };
        let (one, two) = (set(&one), set(&two));
        let (first, second) =
            tokio::join!(async { store.change_headers(&tenant(), app.id, made.id, &one, NOW).await }, async {
                other.change_headers(&tenant(), app.id, made.id, &two, NOW).await
            },);
        assert!(first.unwrap() && second.unwrap());
    }
    let headers = store.endpoint(&tenant(), app.id, &made.id.into()).await.unwrap().unwrap().spec.headers;
    assert_eq!(headers.len(), 11, "{headers:?}");
    // What would come of it is checked: fifty, and one more.
    let many: BTreeMap<_, _> = (0..50).map(|n| (format!("x-{n}"), "v".to_owned())).collect();
    store.change_headers(&tenant(), app.id, made.id, &HeaderChange::Replace(many), NOW).await.unwrap();
    let more = HeaderChange::Merge { set: of(&[("x-more", "v")]), delete: vec![] };
    let refused = store.change_headers(&tenant(), app.id, made.id, &more, NOW).await;
    assert!(matches!(&refused, Err(StoreError::Invalid(wrong)) if wrong[0].field == "headers"), "{refused:?}");
}

async fn an_endpoint_comes_back_as_it_was_made(home: Home) {
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

    let changed = updated(store, &made, endpoint_spec(), later(5)).await;
    assert_eq!((changed.created_at, changed.updated_at, changed.disabled_reason), (NOW, later(5), None));
    assert_eq!(store.endpoint(&tenant(), app.id, &made.id.into()).await.unwrap(), Some(changed));
    assert!(store.delete_endpoint(&tenant(), app.id, made.id, NOW).await.unwrap());
    assert!(!store.delete_endpoint(&tenant(), app.id, made.id, NOW).await.unwrap());
    assert_eq!(store.endpoint(&tenant(), app.id, &made.id.into()).await.unwrap(), None);
    assert_eq!(store.endpoints(&tenant(), app.id, &first()).await.unwrap().data, [plain]);
}

async fn a_uid_is_taken_in_its_application_and_a_filter_names_what_is_in_the_catalog(home: Home) {
    let store = &home.store;
    let (one, two) = (application(store, "one").await, application(store, "two").await);
    let spec = EndpointSpec { uid: Some(uid("hook")), ..endpoint_spec() };
    let made = endpoint(store, one.id, spec.clone()).await;
    let again = store.create_endpoint(&tenant(), one.id, spec.clone(), &secret(), NOW).await;
    assert!(matches!(&again, Err(StoreError::Taken(what)) if what.contains("hook")), "{again:?}");
    let other = endpoint(store, one.id, endpoint_spec()).await;
    let again = store.update_endpoint(&tenant(), &other, spec.clone(), NOW).await;
    assert!(matches!(again, Err(StoreError::Taken(_))), "{again:?}");
    endpoint(store, two.id, spec.clone()).await;
    store.delete_endpoint(&tenant(), one.id, made.id, NOW).await.unwrap();
    endpoint(store, one.id, spec).await;

    let filtered = EndpointSpec { event_types: Some(strings(&["no.such"])), ..endpoint_spec() };
    let refused = store.create_endpoint(&tenant(), one.id, filtered.clone(), &secret(), NOW).await;
    assert!(matches!(&refused, Err(StoreError::Invalid(wrong)) if wrong[0].field == "eventTypes"), "{refused:?}");
    let refused = store.update_endpoint(&tenant(), &other, filtered.clone(), NOW).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    let strangers = EventTypeSpec { name: "no.such".into(), ..EventTypeSpec::default() };
    store.put_event_type(&stranger(), strangers, NOW).await.unwrap();
    let refused = store.create_endpoint(&tenant(), one.id, filtered, &secret(), NOW).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "another organization's catalog is not ours: {refused:?}");
}

async fn nobody_touches_what_is_another_tenants(home: Home) {
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
        let named = Endpoint { app_id: of, ..made.clone() };
        assert_eq!(
            store.update_endpoint(&who, &named, endpoint_spec(), NOW).await.unwrap(),
            OptimisticUpdate::NotFound
        );
        let none = HeaderChange::Replace(BTreeMap::new());
        assert!(!store.change_headers(&who, of, made.id, &none, NOW).await.unwrap());
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

async fn a_rotation_leaves_the_old_secret_signing_for_its_grace(home: Home) {
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

async fn at_most_five_old_secrets_sign_along(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let hour = Duration::from_secs(3_600);
    let mut keys = Vec::new();
    for n in 1..=5 {
        keys.push(secret());
        assert!(store.rotate_secret(&tenant(), app.id, made.id, &keys[keys.len() - 1], hour, later(n)).await.unwrap());
    }
    let one_more = store.rotate_secret(&tenant(), app.id, made.id, &keys[0], hour, later(6)).await;
    let Err(StoreError::Invalid(wrong)) = one_more else { panic!("{one_more:?}") };
    assert_eq!(wrong[0].kind, TOO_MANY);
    assert!(wrong[0].reason.contains(&later(3_601).to_string()), "{}", wrong[0].reason);
    let live = home.another().await.live_endpoints(&[made.id]).await.unwrap().remove(0);
    let text = live.signing.as_ref().unwrap().signature("msg_1", later(9), b"{}");
    let by = |key: &Secret| {
        let alone = Signing::new(key, [], &[]).signature("msg_1", later(9), b"{}");
        text.split(' ').any(|one| one == alone)
    };
    assert!(keys.iter().all(by));
    assert_eq!(text.split(' ').count(), 6, "the current one and the five before it");
    assert!(text.len() < 512, "{}", text.len());
    // Without a grace there is not one more, and after an hour there is one less.
    let (app, id) = (app.id, made.id);
    assert!(store.rotate_secret(&tenant(), app, id, &secret(), Duration::ZERO, later(6)).await.unwrap());
    assert!(store.rotate_secret(&tenant(), app, id, &secret(), hour, later(3_601)).await.unwrap());
}

async fn a_new_key_decides_how_the_endpoint_signs_and_the_old_one_signs_along(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let old = secret();
    let made = store.create_endpoint(&tenant(), app.id, endpoint_spec(), &old, NOW).await.unwrap();
    let key = Secret::generate(SignatureType::Ed25519);
    let hour = Duration::from_secs(3_600);
    assert!(store.rotate_secret(&tenant(), app.id, made.id, &key, hour, later(1)).await.unwrap());
    let now = store.endpoint(&tenant(), app.id, &made.id.into()).await.unwrap().unwrap();
    assert_eq!(now.spec.signature_type, SignatureType::Ed25519);
    let live = home.another().await.live_endpoints(&[made.id]).await.unwrap().remove(0);
    let text = live.signing.as_ref().unwrap().signature("msg_1", later(2), b"{}");
    let kinds: Vec<&str> = text.split(' ').filter_map(|one| one.split(',').next()).collect();
    assert_eq!(kinds, ["v1a", "v1"]);
    assert!(store.rotate_secret(&tenant(), app.id, made.id, &old, hour, later(3)).await.unwrap());
    let back = store.endpoint(&tenant(), app.id, &made.id.into()).await.unwrap().unwrap();
    assert_eq!(back.spec.signature_type, SignatureType::Hmac256);
}

async fn two_rotations_at_once_leave_one_current_secret(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let other = home.another().await;
    for round in 0..5 {
        let (one, two) = (secret(), secret());
        let grace = Duration::from_secs(10);
        let (first, second) = tokio::join!(
            async { store.rotate_secret(&tenant(), app.id, made.id, &one, grace, later(round * 10 + 1)).await },
            async { other.rotate_secret(&tenant(), app.id, made.id, &two, grace, later(round * 10 + 2)).await },
        );
        assert!(first.unwrap() && second.unwrap());
        assert_eq!(home.number("SELECT count(*) FROM endpoint_secret WHERE expires_at IS NULL").await, 1);
    }
}

async fn nothing_secret_lies_in_the_tables_as_it_is(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let key = secret();
    let spec = full_spec(store).await;
    let made = store.create_endpoint(&tenant(), app.id, spec, &key, NOW).await.unwrap();
    store.rotate_secret(&tenant(), app.id, made.id, &secret(), Duration::from_secs(60), NOW).await.unwrap();
    let stored = [
        home.bytes("SELECT sealed FROM endpoint_secret").await,
        home.bytes("SELECT headers FROM endpoint").await,
        home.bytes("SELECT chat FROM endpoint").await,
    ]
    .concat();
    assert!(stored.len() > 100);
    let text = key.text();
    let raw = text.strip_prefix("whsec_").unwrap();
    for hidden in [raw.as_bytes(), b"s3cret-value", b"s3cret-path", b"authorization", b"Bearer"] {
        assert!(!stored.windows(hidden.len()).any(|some| some == hidden), "{}", String::from_utf8_lossy(hidden));
    }
}
