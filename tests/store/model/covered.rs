//! Which methods of the store are held against the model: all but those that are named here, with the reason.

use std::collections::BTreeSet;

use crate::support::sources::texts;

/// Methods that the model knows nothing of. `tests/store` has stories of all of them.
const NOT_MODELLED: [(&str, &[&str]); 28] = [
    (
        "changes that are worked out on what is there, by methods that are modelled or as they are: tests/api/changes.rs",
        &["change_endpoint", "update_event_type"],
    ),
    (
        "names that a customer's flags hide: tests/store/event_types.rs and tests/api/portal_access.rs",
        &["event_types_not_offered"],
    ),
    (
        "mail about endpoints, and a figure of all organizations for the metrics",
        &["lease_mail", "record_mail_outcome", "delete_old_mails", "dead_within_a_day"],
    ),
    (
        "the order of ordered endpoints, which the model's are not: tests/store/ordering.rs, and the property of their lanes",
        &["ordered_heads", "head", "number_pending"],
    ),
    (
        "who signs in to the dashboard: nothing of it touches messages",
        &[
            "create_operator",
            "operator",
            "any_passwords",
            "sign_in_by_oidc",
            "change_access",
            "open_sessions",
            "revoke_session",
            "end_other_sessions",
            "second_factor",
            "add_second_factor",
            "replace_recovery_codes",
            "remove_second_factor",
            "add_password_reset",
            "password_reset",
            "reset_password",
            "operators",
            "any_operators",
            "operator_named",
            "change_password",
            "remove_operator",
            "organizations",
            "is_organization",
            "add_login_link",
            "is_login_link_valid",
            "redeem_login_link",
            "open_session",
            "session",
            "select_organization",
            "end_session",
            "delete_expired_logins",
        ],
    ),
    (
        "customers' sessions in the portal, likewise",
        &[
            "add_portal_link",
            "redeem_portal_link",
            "valid_portal_link",
            "portal_session",
            "end_portal_session",
            "open_portal_sessions",
            "revoke_portal_session",
            "expire_portal_access",
            "is_token_expired",
        ],
    ),
    (
        "filters that an operator keeps under a name: tests/store/saved_views.rs",
        &["saved_views", "save_view", "delete_view"],
    ),
    ("a list of hashes of tokens", &["revoke_token", "is_token_revoked"]),
    (
        "the audit log, which is written beside everything and read by nobody but people",
        &["write_audit_entry", "audit_log", "delete_old_audit_entries"],
    ),
    (
        "operational events are messages that come of other acts: the model's organizations do not listen",
        &["operational_application", "ensure_operational_application"],
    ),
    ("the live tail goes by the time at which attempts are committed", &["tail", "attempts_since"]),
    ("waits for what other processes announce, or what is committed", &["listen", "next", "wait"]),
    (
        "how the database is opened, kept and measured",
        &["open", "open_with", "migrate", "migrate_with", "ready", "writable", "size", "checkpoint", "scan"],
    ),
    (
        "maintenance of what nobody reads any more: tests/store/purge.rs",
        &["purge_deleted", "delete_expired_secrets", "delete_old_api_keys"],
    ),
    (
        "go by the partitions that there happen to be on one of the two engines: tests/store/partitions_past.rs",
        &["create_partitions", "drop_partitions", "analyze_partitions", "retain"],
    ),
    ("changes how secrets lie in the store, and no secret: tests/process/environment/master_key.rs", &["reseal"]),
    (
        "what pages count and lead to, held against the lists themselves: tests/store/listed.rs, tests/store/resting.rs",
        &["count_deliveries", "paused_endpoints", "period_totals"],
    ),
    (
        "messages that a person sends, accepted like any other: tests/dashboard/form_once.rs, tests/dashboard/messages.rs",
        &["accept_by_hand", "edited_copies"],
    ),
    (
        "what people see of the outbox and do to its stuck rows: tests/dashboard/outbox.rs",
        &["act_on_outbox", "outbox_owners", "outbox_stuck_row", "relay_activity"],
    ),
    ("what the search box finds: tests/dashboard/find.rs", &["objects_named", "endpoints_at"]),
    ("marks of payloads that do not match their schema: tests/store/validation.rs", &["payload_warning"]),
    (
        "names and defaults of organizations: tests/dashboard/organizations.rs",
        &["organization", "put_organization", "refresh_organizations"],
    ),
    ("a bounded part of what a modelled method reads", &["load_messages_within", "page_of_deliveries"]),
    ("the feed, whose order is that of the commits: tests/store/feed.rs", &["feed", "feed_lag"]),
    (
        "leases of consumers, and subscriptions that make polling endpoints: tests/store/leases.rs, tests/store/autoconfig.rs",
        &[
            "take_lease",
            "commit_lease",
            "lease_state",
            "skip_to",
            "create_autoconfig",
            "autoconfig",
            "autoconfig_by_hash",
            "autoconfig_secret",
            "bind_autoconfig",
            "rotate_autoconfig",
            "delete_autoconfig",
        ],
    ),
    (
        "what a receiver misses, by ids that it names: tests/store/reconcile.rs",
        &["missing_messages", "start_reconciliation"],
    ),
    (
        "polling endpoints, which nothing is sent to: tests/store/polling.rs",
        &[
            "create_polling_endpoint",
            "create_polling_endpoint_with",
            "polling_endpoint",
            "polling_endpoints",
            "update_polling_endpoint",
            "delete_polling_endpoint",
            "consumer",
            "consumers",
            "consume",
            "reset_consumer",
            "report_silent_consumers",
            "report_local_attempt",
            "development_endpoints",
            "local_attempts",
            "delete_unseen_listeners",
            "rotate_polling_token",
            "polling_token",
            "polling_token_by_hash",
        ],
    ),
    (
        "the loop around `relay`, and what it does with rows that the store itself refuses: tests/store/outbox.rs",
        &["relay_next", "mark_first_row_stuck"],
    ),
];

#[test]
fn every_method_of_the_store_is_held_against_the_model_or_named_with_the_reason() {
    let sources = texts("src/store");
    let methods: BTreeSet<&str> =
        sources.lines().filter_map(|line| line.strip_prefix("    pub async fn ")?.split(['(', '<']).next()).collect();
    assert!(methods.len() > 100, "the methods are not where they were: {methods:?}");
    let model = texts("tests/store/model");
    // Nobody but the store is asked like this; what the model is asked has a name of its own, or `self.model` before it.
    let asked = |name: &&str| {
        let calls = ["store()", "another()", "store", "first", "second"].map(|of| format!("{of}.{name}("));
        calls.iter().any(|call| model.contains(call))
    };
    let named: BTreeSet<&str> = NOT_MODELLED.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    let missing: Vec<&str> = methods.iter().filter(|name| !asked(name) && !named.contains(*name)).copied().collect();
    assert!(missing.is_empty(), "neither held against the model nor named in NOT_MODELLED: {missing:?}");
    let stale: Vec<&&str> = named.iter().filter(|name| !methods.contains(*name) || asked(name)).collect();
    assert!(stale.is_empty(), "named in NOT_MODELLED for nothing: {stale:?}");
}
