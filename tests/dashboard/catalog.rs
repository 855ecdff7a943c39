//! Event types on pages: import with a preview, the schema as a table, validation.

use reqwest::StatusCode;
use sendoff::domain::catalog::event_type::EventTypeSpec;

use crate::pages::words;
use crate::support::on_both;
use crate::world::{World, location};

on_both! {
    an_import_shows_what_changes_before_it_does
}

const DOCUMENT: &str = r##"{"openapi": "3.1.0", "webhooks": {
    "invoice.paid": {"post": {"description": "Paid.", "requestBody": {"content": {"application/json": {"schema":
        {"type": "object", "required": ["id"], "properties": {"id": {"type": "string", "description": "Its id."},
            "lines": {"type": "array", "items": {"type": "object", "properties": {"amount": {"type": "number"}}}}}}}}}}},
    "invoice.sent": {"post": {"summary": "</textarea><b>\u202e"}}}}"##;

async fn an_import_shows_what_changes_before_it_does(world: World) {
    let browser = world.sign_in().await;
    let known = |name: &str| EventTypeSpec { name: name.into(), description: "Old.".into(), ..Default::default() };
    for name in ["invoice.paid", "old.one"] {
        world.store.create_event_type(&world.tenant(), known(name), world.now).await.unwrap();
    }
    let path = "/event-types/import";
    let bad = browser.submit(path, path, &[("spec", "{\"openapi\": \"2.0\"}")]).await;
    assert_eq!(bad.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let typed = [("spec", DOCUMENT), ("replaceAll", "on"), ("versions", "replace")];
    let page = browser.submit(path, path, &typed).await.text().await.unwrap();
    crate::html::check(&page, path);
    let said = words(&page);
    for part in [
        "Preview: 3 changes",
        "change invoice.paid description, schema",
        "create invoice.sent",
        "archive old.one",
        "Apply 3 changes",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let catalog = || async { world.store.event_type(&world.tenant(), "invoice.sent").await.unwrap() };
    assert!(catalog().await.is_none(), "nothing has changed yet");

    let plan = crate::world::field(&page, "plan");
    let apply = |plan: &str| {
        let typed = typed.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let more = [("csrf", crate::world::field(&page, "csrf")), ("plan", plan.to_owned())];
        typed.chain(more).collect::<Vec<_>>()
    };
    let other = browser.post(path, &apply("another")).await.text().await.unwrap();
    assert!(words(&other).contains("Not applied. The catalog changed since the preview"), "{other}");
    let done = browser.post(path, &apply(&plan)).await;
    assert_eq!(location(&done), "/event-types?notice=imported");
    assert!(catalog().await.is_some());
    let list = words(&browser.page("/event-types").await);
    assert!(list.contains("invoice.sent") && !list.contains("old.one"), "{list}");
    let nothing = browser.submit(path, path, &typed).await.text().await.unwrap();
    assert!(words(&nothing).contains("Nothing to change"));

    let shown = words(&browser.page("/event-types/invoice.paid").await);
    for part in ["id required string Its id.", "lines[].amount number"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let edit = "/event-types/invoice.paid/edit";
    let schemas = r#"{"1": {"required": ["id"]}}"#;
    let form = [("description", "Paid."), ("schemas", schemas), ("validation", "warn")];
    assert_eq!(browser.submit(edit, edit, &form).await.status(), StatusCode::SEE_OTHER);
    assert!(words(&browser.page("/event-types/invoice.paid").await).contains("validation: warn"));
    let app = world.app("Acme").await;
    let message = world.message(&app, "invoice.paid", "{\"a\": 1}", world.now).await;
    let page = words(&browser.page(&format!("/applications/{}/messages/{}", app.id, message.id)).await);
    assert!(page.contains("The payload does not match the schema of its event type."), "{page}");
}
