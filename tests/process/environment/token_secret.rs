//! The secret of tokens is changed, and overlaps with its predecessor.

use super::api::Api;
use crate::support::server::JWT_SECRET;
use crate::support::{Database, Kind, on_both};

on_both! {
    tokens_of_the_old_secret_work_for_as_long_as_it_is_given
}

const NEW: &str = "another secret of enough bytes";

async fn tokens_of_the_old_secret_work_for_as_long_as_it_is_given(kind: Kind) {
    let database = Database::on(kind);
    let url = database.url.clone();
    let old = Api::at(&url, &[]).token;
    let status = async |api: &Api, token: &str| {
        let request = api.client.get(format!("{}/api/v1/app", api.server.url())).bearer_auth(token);
        request.send().await.expect("an answer").status().as_u16()
    };
    let both = Api::at(&url, &[("SENDOFF_JWT_SECRET", NEW), ("SENDOFF_JWT_SECRET_OTHER", JWT_SECRET)]);
    let new = both.token.clone();
    assert_eq!((status(&both, &old).await, status(&both, &new).await), (200, 200));
    drop(both);
    let after = Api::at(&url, &[("SENDOFF_JWT_SECRET", NEW)]);
    assert_eq!((status(&after, &old).await, status(&after, &new).await), (401, 200));
    drop(after);
    // Signed with the new secret alone.
    let before = Api::at(&url, &[]);
    assert_eq!((status(&before, &old).await, status(&before, &new).await), (200, 401));
}
