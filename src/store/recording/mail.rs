//! The mail queue: mails to the contacts of applications. A mail is [written](write) in the transaction of the change
//! it reports, and sent by the process that [leases](Store::lease_mail) it.
//!
//! * At least once: if the sender ends before it reports a result, the mail is sent again after its lease. A leased
//!   mail never changes and its id is its `Message-ID`, so a duplicate is identical.
//! * Rate limit: until a mail is leased, further notices for the same application and address are added to it. An
//!   application's next mail is planned an hour after the last.
//!
//! No mail is written in a process that sends none ([`Store::enable_mail`] was not called).

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::domain::notifications::mail::{APART, MailContent, MailNotice, line};
use crate::domain::{AppId, MailId, OrgId, Time};
use crate::store::db::{codec, skip_locked};
use crate::store::{Inner, Store, StoreError, Tx, on, read_vital, write_one};

/// The lease of a mail being sent; longer than the timeout of an attempt to send it.
const LEASE: Duration = Duration::from_secs(60);
/// The column `state`.
const WAITS: i16 = 0;
const SENT: i16 = 1;
const GIVEN_UP: i16 = 2;
/// Maximum characters kept of the mail server's error.
const FAILURE: usize = 500;

/// A leased mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    pub id: MailId,
    pub app: AppId,
    /// Without line breaks.
    pub app_name: String,
    pub recipient: String,
    pub letter: MailContent,
    pub created_at: Time,
    /// Including this one. Identifies the lease.
    pub attempts: i32,
}

/// The result of an attempt to send a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailOutcome {
    Sent,
    /// Failed; retry at `due`.
    Retry {
        due: Time,
        failure: String,
    },
    /// Failed permanently.
    GivenUp {
        failure: String,
    },
}

impl Inner {
    /// Whether mails are written.
    pub(in crate::store) fn mail_enabled(&self) -> bool {
        self.mailing.load(Ordering::Relaxed)
    }
}

/// Writes a mail to the contact of `app` inside `tx`, if it has one.
///
/// # Errors
/// The store is unavailable.
pub(in crate::store) async fn write(
    tx: &mut Tx,
    app: AppId,
    notices: Vec<MailNotice>,
    now: Time,
) -> Result<(), StoreError> {
    const CONTACT: &str =
        "SELECT org, name, contact_email FROM application WHERE id = $1 AND contact_email IS NOT NULL";
    type Contact = (OrgId, String, String);
    let contact: Option<Contact> = on!(tx, db => sqlx::query_as(CONTACT).bind(app).fetch_optional(db).await)?;
    let Some((org, name, recipient)) = contact else { return Ok(()) };
    if let Some((id, text)) = unsent(tx, app, &recipient).await? {
        const ADD: &str = "UPDATE mail SET letter = $2 WHERE id = $1";
        let mut letter: MailContent = codec::from_json(&text)?;
        letter.add(notices);
        let text = codec::json(&letter)?;
        on!(tx, db => sqlx::query(ADD).bind(id).bind(text).execute(db).await.map(drop))?;
        return Ok(());
    }
    const LAST: &str = "SELECT MAX(planned_at) FROM mail WHERE app_id = $1";
    let last: Option<Time> = on!(tx, db => sqlx::query_scalar(LAST).bind(app).fetch_one(db).await)?;
    let planned = last.map_or(now, |last| last.plus(APART).max(now));
    let mut letter = MailContent::default();
    letter.add(notices);
    const SQL: &str = "INSERT INTO mail (id, org, app_id, app_name, recipient, letter, state, created_at, planned_at,
             due_at, attempts, leased_until)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, 0, 0)";
    let text = codec::json(&letter)?;
    on!(tx, db => {
        sqlx::query(SQL)
            .bind(MailId::new(now)).bind(org).bind(app).bind(line(&name)).bind(recipient).bind(text).bind(WAITS)
            .bind(now).bind(planned)
            .execute(db).await.map(drop)
    })?;
    Ok(())
}

/// Locks the application's mail to this address that was never leased, if any.
async fn unsent(tx: &mut Tx, app: AppId, recipient: &str) -> Result<Option<(MailId, String)>, StoreError> {
    const SQL: &str = "SELECT id, letter FROM mail
         WHERE app_id = $1 AND recipient = $2 AND state = 0 AND attempts = 0 ORDER BY id LIMIT 1";
    Ok(match tx {
        Tx::Sqlite(tx) => sqlx::query_as(SQL).bind(app).bind(recipient).fetch_optional(&mut **tx).await?,
        Tx::Postgres(tx) => {
            // Not SKIP LOCKED: waits for another writer that adds to it. A mail that is leased meanwhile no longer
            // matches.
            let sql = sqlx::AssertSqlSafe(format!("{SQL} FOR UPDATE"));
            sqlx::query_as(sql).bind(app).bind(recipient).fetch_optional(&mut **tx).await?
        }
    })
}

impl Store {
    /// Enables writing mails: this process sends mail.
    pub fn enable_mail(&self) {
        self.inner.mailing.store(true, Ordering::Relaxed);
    }

    /// Leases the mail that has been due longest; `None`: none is due, or all are leased.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn lease_mail(&self, now: Time) -> Result<Option<Mail>, StoreError> {
        self.retry_conflicts(|| async {
            // Nearly always none is due: do not wait for the write lock.
            const ANY: &str = "SELECT 1 FROM mail WHERE state = 0 AND due_at <= $1 LIMIT 1";
            let any: Option<i32> = read_vital!(self, db => sqlx::query_scalar(ANY).bind(now).fetch_optional(db).await)?;
            if any.is_none() {
                return Ok(None);
            }
            let mut tx = self.begin().await?;
            let clock = Store::lease_clock(&mut tx, now).await?;
            const NEXT: &str = "SELECT id FROM mail WHERE state = 0 AND due_at <= $1 AND leased_until <= $2
             ORDER BY due_at, id LIMIT 1";
            let next = skip_locked::next_unlocked(&mut tx, NEXT, [now, clock]).await?;
            let Some(id) = next.map(MailId) else { return Ok(None) };
            const TAKE: &str = "UPDATE mail SET leased_until = $2, attempts = attempts + 1 WHERE id = $1
             RETURNING app_id, app_name, recipient, letter, created_at, attempts";
            type MailRow = (AppId, String, String, String, Time, i32);
            let until = clock.plus(LEASE);
            let (app, app_name, recipient, text, created_at, attempts): MailRow =
                on!(tx, db => sqlx::query_as(TAKE).bind(id).bind(until).fetch_one(db).await)?;
            let letter = codec::from_json(&text)?;
            tx.commit().await?;
            Ok(Some(Mail { id, app, app_name, recipient, letter, created_at, attempts }))
        })
        .await
    }

    /// Stores the result of an attempt to send a leased mail. `false`: another process has leased it since, and the
    /// result is ignored. A mail that was sent is marked as sent in any case.
    ///
    /// # Errors
    /// The store is unavailable: the mail will be sent again after its lease.
    pub async fn record_mail_outcome(&self, mail: &Mail, tried: &MailOutcome) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE mail SET state = $3, due_at = COALESCE($4, due_at), failure = $5, leased_until = 0
             WHERE id = $1 AND state = 0 AND (attempts = $2 OR $3 = 1)";
        let said = |failure: &str| Some(codec::without_nul(failure).chars().take(FAILURE).collect::<String>());
        let (state, due, failure) = match tried {
            MailOutcome::Sent => (SENT, None, None),
            MailOutcome::Retry { due, failure } => (WAITS, Some(*due), said(failure)),
            MailOutcome::GivenUp { failure } => (GIVEN_UP, None, said(failure)),
        };
        let recorded = write_one!(
            self,
            sqlx::query(SQL).bind(mail.id).bind(mail.attempts).bind(state).bind(due).bind(failure.as_deref())
        )?;
        Ok(recorded > 0)
    }

    /// Deletes up to `limit` mails created before `before` that were sent or given up. Returns the number deleted.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn delete_old_mails(&self, before: Time, limit: i64) -> Result<u64, StoreError> {
        const SQL: &str = "DELETE FROM mail WHERE id IN
             (SELECT id FROM mail WHERE id < $1 AND state <> 0 ORDER BY id LIMIT $2)";
        write_one!(self, sqlx::query(SQL).bind(MailId::floor(before)).bind(limit))
    }
}
