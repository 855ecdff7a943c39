//! Organizations with a name or defaults of their own: what is cached of them, and how many there may be.

use std::time::Duration;

use sendoff::domain::access::theme::Theme;
use sendoff::domain::catalog::organization_spec::OrganizationSpec;
use sendoff::domain::deliveries::backoff::RetrySchedule;
use sendoff::domain::limits;
use sendoff::store::catalog::organization_rows::OrganizationWrite;

use crate::home::*;
use crate::support::on_both;

on_both! {
    defaults_are_cached_and_a_theme_is_read_when_it_is_used
    another_process_reads_them_again
    there_are_only_so_many
}

async fn defaults_are_cached_and_a_theme_is_read_when_it_is_used(home: Home) {
    let store = &home.store;
    let id = org("org_a");
    let spec = OrganizationSpec {
        name: "Acme".into(),
        theme: Some(Theme { radius: Some(9), ..Theme::default() }),
        payload_retention: Some(Duration::from_secs(7_200)),
        retry_schedule: Some(RetrySchedule::new("retrySchedule", vec![Duration::from_secs(5)]).unwrap()),
        max_endpoints: Some(7),
        public_catalog: true,
    };
    assert_eq!(store.put_organization(&id, &spec, None, NOW).await.unwrap(), OrganizationWrite::Written);
    assert_eq!(store.put_organization(&id, &spec, None, NOW).await.unwrap(), OrganizationWrite::Stale);
    assert_eq!(store.organization(&id).await.unwrap().unwrap().spec, spec);
    let cached = store.organization_defaults().of(&id).expect("an entry");
    assert_eq!((&cached.name, cached.payload_retention), (&spec.name, spec.payload_retention));
    assert_eq!((&cached.retry_schedule, cached.max_endpoints), (&spec.retry_schedule, spec.max_endpoints));
    assert!(cached.public_catalog && store.organization_defaults().of(&org("org_b")).is_none());
    let named = OrganizationSpec { name: "Globex".into(), ..OrganizationSpec::default() };
    assert_eq!(store.put_organization(&id, &named, Some(later(9)), later(9)).await.unwrap(), OrganizationWrite::Stale);
    assert_eq!(store.put_organization(&id, &named, Some(NOW), later(9)).await.unwrap(), OrganizationWrite::Written);
    let cached = store.organization_defaults().of(&id).expect("an entry");
    assert_eq!((&*cached.name, &cached.retry_schedule), ("Globex", &None));
}

async fn another_process_reads_them_again(home: Home) {
    let (id, other) = (org("org_a"), home.another().await);
    let spec = OrganizationSpec { name: "Acme".into(), ..OrganizationSpec::default() };
    assert_eq!(home.store.put_organization(&id, &spec, None, NOW).await.unwrap(), OrganizationWrite::Written);
    assert!(other.organization_defaults().of(&id).is_none());
    other.refresh_organizations().await;
    assert_eq!(other.organization_defaults().of(&id).map(|one| one.name.to_string()).as_deref(), Some("Acme"));
}

async fn there_are_only_so_many(home: Home) {
    let store = &home.store;
    let most = limits::ORGANIZATIONS;
    let numbers = match home.is_sqlite() {
        true => {
            format!("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {most}) SELECT i FROM n")
        }
        false => format!("SELECT i FROM generate_series(1, {most}) AS i"),
    };
    home.execute(&format!(
        "INSERT INTO organization (id, name, created_at, updated_at, public_catalog)
         SELECT 'org_x' || i, 'a name', 0, 0, {} FROM ({numbers}) AS n",
        home.either("0", "false")
    ))
    .await;
    let spec = OrganizationSpec { name: "One more".into(), ..OrganizationSpec::default() };
    assert_eq!(store.put_organization(&org("org_more"), &spec, None, NOW).await.unwrap(), OrganizationWrite::TooMany);
    let last = org(&format!("org_x{most}"));
    let changed = store.put_organization(&last, &spec, Some(sendoff::domain::Time::ZERO), NOW).await.unwrap();
    assert_eq!(changed, OrganizationWrite::Written, "those that are there can be changed");
    let defaults = store.organization_defaults();
    assert_eq!(&*defaults.of(&last).expect("an entry").name, "One more");
    assert!((1..most).step_by(997).all(|n| defaults.of(&org(&format!("org_x{n}"))).is_some()));
}
