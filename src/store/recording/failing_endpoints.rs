//! Warns about endpoints that only fail, and finally disables them. The operational event, the mail and the audit entry
//! are written in the transaction that updates the endpoint. Each is therefore written once per streak, even with
//! several processes or a crash.
//!
//! * [`Store::check_failing_endpoints`]: a step of the maintenance.
//!   [`failure_streak`](crate::domain::deliveries::failure_streak) has the rule.
//! * [`disable_gone`]: disables endpoints that answered 410, when the attempt is recorded.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::access::audit::{Actor, ActorKind, ENGINE, action};
use crate::domain::catalog::endpoint::DisabledReason;
use crate::domain::deliveries::attempt::Failure;
use crate::domain::deliveries::failure_streak::{StreakAction, action_due, next_threshold};
use crate::domain::notifications::mail as words;
use crate::domain::notifications::mail::MailNotice;
use crate::domain::notifications::operational::{DisabledBy, Warning};
use crate::domain::{AppId, EndpointId, OrgId, Time, Uid};
use crate::store::access::audit::{self, NewAuditEntry};
use crate::store::catalog::applications;
use crate::store::db::codec::from_row;
use crate::store::queue::signals::Signal;
use crate::store::recording::operational_event::{self, EventDetail, OperationalEvent};
use crate::store::recording::record::FinishedAttempt;
use crate::store::recording::{mail, operational};
use crate::store::{Inner, Store, StoreError, Tx, on, read_vital};

/// Maximum endpoints per transaction.
const STEP: i64 = 100;

/// The result of a step of [`Store::check_failing_endpoints`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailingReport {
    /// Endpoints with the number of their warning, from 1.
    pub warned: Vec<(EndpointId, i16)>,
    pub disabled: Vec<EndpointId>,
    /// More endpoints are due: call again.
    pub more: bool,
}

from_row! {
    /// An endpoint that is due for a warning or for being disabled.
    struct Row {
        id: EndpointId,
        app_id: AppId,
        org: OrgId,
        uid: Option<Uid>,
        url: String,
        failing_since: Time,
        warned: i16,
        failed_at: Time,
    }
}

/// Notices by application: one mail lists all notices of an application.
type Notices = BTreeMap<AppId, Vec<MailNotice>>;

impl Store {
    /// Warns about endpoints that only fail, and disables those that have only failed for `disable_after`. Handles a
    /// limited number of endpoints, see [`FailingReport::more`].
    ///
    /// # Errors
    /// The store is unavailable; nothing was changed.
    pub async fn check_failing_endpoints(
        &self,
        disable_after: Duration,
        now: Time,
    ) -> Result<FailingReport, StoreError> {
        self.retry_conflicts(|| async {
            let mut rows = self.due_endpoints(disable_after, now).await?;
            let mut judged = FailingReport { more: rows.len() as i64 == STEP, ..FailingReport::default() };
            if rows.is_empty() {
                return Ok(judged);
            }
            rows.sort_unstable_by_key(|row| row.id);
            let what = |row: &Row| action_due(row.failed_at.since(row.failing_since), row.warned, disable_after);
            let ends: Vec<AppId> =
                rows.iter().filter(|row| what(row) == Some(StreakAction::Disable)).map(|row| row.app_id).collect();
            let mut tx = self.begin().await?;
            applications::bump_versions(&mut tx, ends.iter().copied()).await?;
            let (mut events, mut notices) = (Vec::new(), Notices::new());
            for row in &rows {
                let emitted = match what(row) {
                    Some(StreakAction::Warn(number)) => warn(&mut tx, row, number, disable_after, now).await?,
                    Some(StreakAction::Disable) => disable_failing(&mut tx, row, now).await?,
                    None => None,
                };
                let Some(what) = emitted else { continue };
                match &what {
                    EventDetail::Failing { warning, .. } => judged.warned.push((row.id, warning.warning)),
                    _ => judged.disabled.push(row.id),
                }
                if self.inner.mail_enabled() {
                    let notice = notice_of(&mut tx, row, &what).await?;
                    notices.entry(row.app_id).or_default().push(notice);
                }
                events.push(OperationalEvent { org: row.org.clone(), app: row.app_id, at: now, what });
            }
            let emitted = operational::emit(&self.inner, &mut tx, events).await?;
            write_mails(&mut tx, notices, now).await?;
            tx.commit().await?;
            for app in ends {
                self.inner.signals.send(Signal::Changed(app));
            }
            operational::signal_emitted(&self.inner, emitted);
            Ok(judged)
        })
        .await
    }

    /// The endpoints that are due, longest streak first. The query filters out endpoints without a failure since
    /// their last warning.
    async fn due_endpoints(&self, disable_after: Duration, now: Time) -> Result<Vec<Row>, StoreError> {
        const SQL: &str = "SELECT * FROM (
                 SELECT e.id, e.app_id, p.org, e.uid, e.url, e.failing_since, e.warned,
                     (SELECT CASE WHEN a.failure IS NOT NULL THEN a.at END FROM attempt a
                      WHERE a.endpoint_id = e.id ORDER BY a.id DESC LIMIT 1) AS failed_at
                 FROM endpoint e JOIN application p ON p.id = e.app_id
                 WHERE e.failing_since IS NOT NULL AND e.failing_since <= $1 AND e.disabled = FALSE
                     AND e.deleted_at IS NULL AND p.deleted_at IS NULL) AS failing
             WHERE failed_at - failing_since >= CASE warned WHEN 0 THEN $2 WHEN 1 THEN $3 ELSE $4 END
             ORDER BY failing_since, id LIMIT $5";
        let after = |warned| i64::try_from(next_threshold(warned, disable_after).as_micros()).unwrap_or(i64::MAX);
        let latest = now.minus(next_threshold(0, disable_after));
        Ok(read_vital!(self, db => {
            sqlx::query_as(SQL)
                .bind(latest).bind(after(0)).bind(after(1)).bind(after(2)).bind(STEP)
                .fetch_all(db).await
        })?)
    }
}

/// Stores the warning. `None` if the streak has ended or another process has warned.
async fn warn(
    tx: &mut Tx,
    row: &Row,
    number: i16,
    disable_after: Duration,
    now: Time,
) -> Result<Option<EventDetail>, StoreError> {
    const SQL: &str = "UPDATE endpoint SET warned = $2, warned_at = $3
         WHERE id = $1 AND failing_since = $4 AND warned = $5 AND disabled = FALSE AND deleted_at IS NULL";
    let noted = on!(tx, db => {
        sqlx::query(SQL)
            .bind(row.id).bind(number).bind(now).bind(row.failing_since).bind(row.warned)
            .execute(db).await.map(|done| done.rows_affected())
    })?;
    let warning = Warning { warning: number, disable_at: row.failing_since.plus(disable_after) };
    let (endpoint, fail_since) = (row.id, row.failing_since);
    Ok((noted > 0).then(|| EventDetail::Failing { endpoint, uid: row.uid.clone(), fail_since, warning }))
}

/// Disables the endpoint. `None` if the streak has ended or another process was first.
async fn disable_failing(tx: &mut Tx, row: &Row, now: Time) -> Result<Option<EventDetail>, StoreError> {
    let done = disable(tx, row.id, DisabledReason::Failing, Some(row.failing_since), now).await?;
    if done.is_none() {
        return Ok(None);
    }
    write_audit_entry(tx, &row.org, row.app_id, row.id, &row.url, "every attempt failed for too long", now).await?;
    let (by, uid, fail_since) = (DisabledBy::Automatic, row.uid.clone(), Some(row.failing_since));
    Ok(Some(EventDetail::Disabled { endpoint: row.id, by, uid, fail_since }))
}

/// Disables the endpoints of `records` that are marked with [`FinishedAttempt::disable`], and returns the events. The
/// caller has [touched](applications::touch) their applications. Endpoints that were already disabled or deleted are
/// skipped.
pub(in crate::store) async fn disable_gone<'f>(
    inner: &Inner,
    tx: &mut Tx,
    records: impl Iterator<Item = &'f FinishedAttempt>,
) -> Result<Vec<OperationalEvent>, StoreError> {
    let (mut events, mut notices) = (Vec::new(), Notices::new());
    let mut latest = Time::ZERO;
    for one in records {
        let attempt = &one.attempt;
        let Some(reason) = one.disable else { continue };
        let Some(found) = disable(tx, attempt.endpoint_id, reason, None, attempt.at).await? else { continue };
        write_audit_entry(tx, &one.org, attempt.app_id, attempt.endpoint_id, &found.url, "410 Gone", attempt.at)
            .await?;
        let (by, fail_since) = (DisabledBy::Automatic, found.failing_since);
        let what = EventDetail::Disabled { endpoint: attempt.endpoint_id, by, uid: found.uid, fail_since };
        let emitted = operational_event::of_record(one, what);
        latest = latest.max(emitted.at);
        if inner.mail_enabled() {
            let last = words::describe_failure(attempt.outcome.failure, attempt.outcome.status);
            let what =
                if reason == DisabledReason::Gone { words::NoticeKind::Gone } else { words::NoticeKind::Disabled };
            let (address, since) = (words::address(&found.url), found.failing_since);
            let notice = MailNotice { endpoint: attempt.endpoint_id, address, what, since, last };
            notices.entry(attempt.app_id).or_default().push(notice);
        }
        events.push(emitted);
    }
    write_mails(tx, notices, latest).await?;
    Ok(events)
}

from_row! {
    /// An endpoint that was just disabled.
    struct DisabledEndpoint {
        uid: Option<Uid>,
        url: String,
        failing_since: Option<Time>,
    }
}

/// Disables an enabled endpoint; if `since` is given, only if its streak began then. Pending deliveries wait until it
/// is enabled again.
async fn disable(
    tx: &mut Tx,
    endpoint: EndpointId,
    reason: DisabledReason,
    since: Option<Time>,
    at: Time,
) -> Result<Option<DisabledEndpoint>, StoreError> {
    const SQL: &str = "UPDATE endpoint SET disabled = TRUE, disabled_reason = $2, disabled_at = $3, updated_at = $3,
             version = (SELECT p.version FROM application p WHERE p.id = endpoint.app_id)
         WHERE id = $1 AND disabled = FALSE AND deleted_at IS NULL AND ($4 IS NULL OR failing_since = $4)
         RETURNING uid, url, failing_since";
    Ok(on!(tx, db => {
        sqlx::query_as(SQL).bind(endpoint).bind(reason.word()).bind(at).bind(since).fetch_optional(db).await
    })?)
}

async fn write_audit_entry(
    tx: &mut Tx,
    org: &OrgId,
    app: AppId,
    endpoint: EndpointId,
    url: &str,
    why: &str,
    now: Time,
) -> Result<(), StoreError> {
    let (target, detail) = (endpoint.to_string(), format!("{why}, {}", audit::host(url)));
    let entry = NewAuditEntry::of(org, action::ENDPOINT_DISABLED, &target).within(app).with(&detail);
    audit::write(tx, &Actor::new(ActorKind::Engine, ENGINE), entry, now).await
}

async fn notice_of(tx: &mut Tx, row: &Row, what: &EventDetail) -> Result<MailNotice, StoreError> {
    const SQL: &str = "SELECT failure, status FROM attempt WHERE endpoint_id = $1 ORDER BY id DESC LIMIT 1";
    type Last = (Option<String>, Option<i32>);
    let last: Option<Last> = on!(tx, db => sqlx::query_as(SQL).bind(row.id).fetch_optional(db).await)?;
    let (failure, status) = last.unwrap_or_default();
    let status = status.and_then(|status| u16::try_from(status).ok());
    Ok(MailNotice {
        endpoint: row.id,
        address: words::address(&row.url),
        what: match what {
            EventDetail::Failing { warning, .. } => words::NoticeKind::Failing { disable_at: warning.disable_at },
            _ => words::NoticeKind::Disabled,
        },
        since: Some(row.failing_since),
        last: words::describe_failure(failure.as_deref().and_then(Failure::from_word), status),
    })
}

async fn write_mails(tx: &mut Tx, notices: Notices, now: Time) -> Result<(), StoreError> {
    for (app, notices) in notices {
        mail::write(tx, app, notices, now).await?;
    }
    Ok(())
}
