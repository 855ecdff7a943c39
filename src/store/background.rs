//! Background work: what a caller asked for and what goes on behind the answer, in steps. Each step is one bounded transaction, which
//! does a little and notes how far it has come: whoever is killed in the middle has done nothing, and nothing is done twice.
//!
//! * [`Background`] – the work as people see it: its kind, its stage, what was asked for, how far it has come.
//! * [`Turn`] – a lease of it: one process at a time works on it, and hands it on after a while, so that long work does not hold up
//!   short work. A turn that was not handed on runs out.
//!
//! What a step does to deliveries is said in [`super::replay`].

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::codec::{self, ENDPOINT, EndpointRow};
use super::endpoint_messages::SentFilter;
use super::replay::Step;
use super::signals::Signal;
use super::{Page, PageRequest, Store, StoreError, Tenant, Tx, on, read};
use crate::domain::background::{Kind, Stage};
use crate::domain::delivery::Standing;
use crate::domain::endpoint::Endpoint;
use crate::domain::{AppId, BackgroundId, EndpointId, MessageId, OrgId, Time};

/// How much background work an application may have at once: each asks for a good deal, and anybody with its token may ask.
const AT_ONCE: i64 = 5;
/// How long a turn lasts unless a step renews it.
const LEASE: Duration = Duration::from_secs(10);

/// Background work, as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Background {
    pub id: BackgroundId,
    pub app_id: AppId,
    pub endpoint_id: EndpointId,
    pub kind: Kind,
    pub stage: Stage,
    pub filter: SentFilter,
    /// How many messages were looked at so far, and how many of them were made to be sent.
    pub looked: i64,
    pub sent: i64,
    /// Why it failed.
    pub reason: Option<String>,
    pub created_at: Time,
    pub updated_at: Time,
}

/// What became of asking for background work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    Begun(Box<Background>),
    /// So many are running for the application already.
    TooMany(i64),
    /// The tenant's application has no such endpoint.
    NoEndpoint,
}

/// Whose turn it is, until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    pub id: BackgroundId,
    until: Time,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// There is more to do, and it is still our turn.
    More(Turn),
    /// It is over.
    Ended(Stage),
    /// The turn has run out: somebody else works on it.
    Lost,
}

/// What was asked for, and how far it has come: a row's `data`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Data {
    /// An endpoint's id.
    endpoint: String,
    since: i64,
    until: i64,
    event_types: Vec<String>,
    channel: Option<String>,
    tag: Option<String>,
    standings: Vec<String>,
    status_class: Option<i32>,
    /// The id of the last message that was looked at.
    cursor: Option<String>,
    looked: i64,
    sent: i64,
    reason: Option<String>,
}

impl Data {
    fn new(endpoint: EndpointId, filter: &SentFilter) -> Data {
        Data {
            endpoint: endpoint.to_string(),
            since: filter.since.micros(),
            until: filter.until.micros(),
            event_types: filter.event_types.clone(),
            channel: filter.channel.clone(),
            tag: filter.tag.clone(),
            standings: filter.standings.iter().map(|standing| standing.word().to_owned()).collect(),
            status_class: filter.status_class,
            ..Data::default()
        }
    }

    fn endpoint(&self) -> Result<EndpointId, StoreError> {
        self.endpoint.parse().map_err(|_| StoreError::Damaged("background work names no endpoint".into()))
    }

    fn filter(&self) -> SentFilter {
        SentFilter {
            since: Time::from_micros(self.since),
            until: Time::from_micros(self.until),
            event_types: self.event_types.clone(),
            channel: self.channel.clone(),
            tag: self.tag.clone(),
            standings: self.standings.iter().filter_map(|word| Standing::from_word(word)).collect(),
            status_class: self.status_class,
        }
    }

    /// The id to go on from.
    fn cursor(&self) -> Result<Uuid, StoreError> {
        let read = |text: &String| text.parse::<MessageId>().map(|id| id.0);
        let read = self.cursor.as_ref().map(read).transpose();
        Ok(read
            .map_err(|_| StoreError::Damaged("background work has no place to go on from".into()))?
            .unwrap_or_default())
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    id: BackgroundId,
    app_id: AppId,
    kind: String,
    state: String,
    data: String,
    created_at: Time,
    updated_at: Time,
}

const COLUMNS: &str = "id, app_id, kind, state, data, created_at, updated_at";

impl Row {
    fn background(self) -> Result<Background, StoreError> {
        let data: Data = codec::from_json(&self.data)?;
        Ok(Background {
            id: self.id,
            app_id: self.app_id,
            endpoint_id: data.endpoint()?,
            kind: kind(&self.kind)?,
            stage: Stage::from_word(&self.state)
                .ok_or_else(|| StoreError::Damaged(format!("background work is {:?}", self.state)))?,
            filter: data.filter(),
            looked: data.looked,
            sent: data.sent,
            reason: data.reason,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

fn kind(word: &str) -> Result<Kind, StoreError> {
    Kind::from_word(word).ok_or_else(|| StoreError::Damaged(format!("background work of kind {word:?}")))
}

impl Store {
    /// Takes down background work on an endpoint of the tenant's application; an engine goes about it.
    ///
    /// # Errors
    /// The store is away.
    pub async fn begin_background(
        &self,
        tenant: &Tenant,
        app: AppId,
        endpoint: EndpointId,
        kind: Kind,
        filter: SentFilter,
        now: Time,
    ) -> Result<Begun, StoreError> {
        if !tenant.sees(app) {
            return Ok(Begun::NoEndpoint);
        }
        let id = BackgroundId::new(now);
        let mut tx = self.begin().await?;
        self.enter_once(&mut tx, &id.to_string()).await?;
        const THERE: &str = "SELECT 1 FROM endpoint e JOIN application p ON p.id = e.app_id
             WHERE e.id = $1 AND p.id = $2 AND p.org = $3 AND e.deleted_at IS NULL AND p.deleted_at IS NULL";
        let there: Option<i32> = on!(tx, db => {
            sqlx::query_scalar(THERE).bind(endpoint).bind(app).bind(&tenant.org).fetch_optional(db).await
        })?;
        if there.is_none() {
            return Ok(Begun::NoEndpoint);
        }
        const RUNNING: &str = "SELECT count(*) FROM background WHERE state = 'running' AND app_id = $1 AND org = $2";
        let running: i64 = on!(tx, db => {
            sqlx::query_scalar(RUNNING).bind(app).bind(&tenant.org).fetch_one(db).await
        })?;
        if running >= AT_ONCE {
            return Ok(Begun::TooMany(running));
        }
        let row = Row {
            id,
            app_id: app,
            kind: kind.word().to_owned(),
            state: Stage::Running.word().to_owned(),
            data: codec::json(&Data::new(endpoint, &filter))?,
            created_at: now,
            updated_at: now,
        };
        const SQL: &str = "INSERT INTO background (id, org, app_id, kind, state, data, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $7)";
        on!(tx, db => {
            sqlx::query(SQL)
                .bind(row.id).bind(&tenant.org).bind(app).bind(&row.kind).bind(&row.state).bind(&row.data).bind(now)
                .execute(db).await.map(drop)
        })?;
        tx.commit().await?;
        Ok(Begun::Begun(Box::new(row.background()?)))
    }

    /// The tenant's background work of this id; an application's own token sees its application's.
    ///
    /// # Errors
    /// The store is away.
    pub async fn background(&self, tenant: &Tenant, id: BackgroundId) -> Result<Option<Background>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM background WHERE id = $1 AND org = $2"));
        let row: Option<Row> =
            read!(self, db => sqlx::query_as(sql).bind(id).bind(&tenant.org).fetch_optional(db).await)?;
        row.filter(|row| tenant.sees(row.app_id)).map(Row::background).transpose()
    }

    /// The tenant's background work, by id; of one stage, of one kind, or all of it.
    ///
    /// # Errors
    /// The store is away.
    pub async fn backgrounds(
        &self,
        tenant: &Tenant,
        stage: Option<Stage>,
        kind: Option<Kind>,
        page: &PageRequest<BackgroundId>,
    ) -> Result<Page<Background>, StoreError> {
        let (compare, direction) = page.sql();
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM background WHERE org = $1 AND id {compare} $2
                 AND ($3 IS NULL OR app_id = $4) AND ($5 IS NULL OR state = $5) AND ($6 IS NULL OR kind = $6)
             ORDER BY id {direction} LIMIT $7"
        ));
        let only = tenant.only.map(|_| true);
        let app = tenant.only.map_or(Uuid::nil(), |app| app.0);
        let rows: Vec<Row> = read!(self, db => {
            sqlx::query_as(sql)
                .bind(&tenant.org).bind(page.bound()).bind(only).bind(app)
                .bind(stage.map(Stage::word)).bind(kind.map(Kind::word)).bind(page.rows())
                .fetch_all(db).await
        })?;
        let all: Result<Vec<_>, _> = rows.into_iter().map(Row::background).collect();
        Ok(page.page(all?))
    }

    /// Takes a turn at the background work that has waited longest for one; `None`: there is none, or others are at it.
    ///
    /// # Errors
    /// The store is away.
    pub async fn take_turn(&self, now: Time) -> Result<Option<Turn>, StoreError> {
        // Most of the time there is none: no need to hold up the writer.
        const ANY: &str = "SELECT 1 FROM background WHERE state = 'running' LIMIT 1";
        let any: Option<i32> = read!(self, db => sqlx::query_scalar(ANY).fetch_optional(db).await)?;
        if any.is_none() {
            return Ok(None);
        }
        let mut tx = self.begin().await?;
        let clock = Store::lease_clock(&mut tx, now).await?;
        let until = clock.plus(LEASE);
        const NEXT: &str = "SELECT id FROM background WHERE state = 'running' AND leased_until <= $1
             ORDER BY leased_until, id LIMIT 1";
        const TAKE: &str = "UPDATE background SET leased_until = $2 WHERE id = $1";
        let next: Option<BackgroundId> = match &mut tx {
            Tx::Sqlite(tx) => sqlx::query_scalar(NEXT).bind(clock).fetch_optional(&mut **tx).await?,
            Tx::Postgres(tx) => {
                // Processes that come at the same moment take different work.
                let sql = sqlx::AssertSqlSafe(format!("{NEXT} FOR UPDATE SKIP LOCKED"));
                sqlx::query_scalar(sql).bind(clock).fetch_optional(&mut **tx).await?
            }
        };
        let Some(id) = next else { return Ok(None) };
        on!(tx, db => sqlx::query(TAKE).bind(id).bind(until).execute(db).await.map(drop))?;
        tx.commit().await?;
        Ok(Some(Turn { id, until }))
    }

    /// Hands a turn on: the work waits behind all other.
    ///
    /// # Errors
    /// The store is away; the turn runs out by itself.
    pub async fn end_turn(&self, turn: Turn, now: Time) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE background SET leased_until = $3 WHERE id = $1 AND leased_until = $2";
        let mut tx = self.begin().await?;
        let clock = Store::lease_clock(&mut tx, now).await?;
        on!(tx, db => sqlx::query(SQL).bind(turn.id).bind(turn.until).bind(clock).execute(db).await.map(drop))?;
        tx.commit().await
    }

    /// Does a step of background work whose turn is ours, and renews the turn: one transaction.
    ///
    /// # Errors
    /// The store is away; or the work cannot be understood. Nothing was done.
    pub async fn step_background(&self, turn: Turn, now: Time) -> Result<Stepped, StoreError> {
        let mut tx = self.begin().await?;
        let clock = Store::lease_clock(&mut tx, now).await?;
        let next = Turn { id: turn.id, until: clock.plus(LEASE) };
        // Renewed first: on PostgreSQL that keeps everybody else from stepping until the commit.
        const RENEW: &str = "UPDATE background SET leased_until = $3
             WHERE id = $1 AND leased_until = $2 AND state = 'running' RETURNING org, app_id, kind, data";
        type Renewed = (OrgId, AppId, String, String);
        let row: Option<Renewed> = on!(tx, db => {
            sqlx::query_as(RENEW).bind(turn.id).bind(turn.until).bind(next.until).fetch_optional(db).await
        })?;
        let Some((org, app, word, data)) = row else { return Ok(Stepped::Lost) };
        let mut data: Data = codec::from_json(&data)?;
        let id = data.endpoint()?;
        let (stage, sent) = match self.endpoint_in(&mut tx, app, id).await? {
            None => {
                data.reason = Some("the endpoint was deleted".to_owned());
                (Stage::Failed, 0)
            }
            Some(endpoint) => {
                let at = Step { org: &org, app, endpoint: &endpoint, filter: data.filter(), now };
                let done = match kind(&word)? {
                    Kind::Recover | Kind::BulkReplay => at.send_again(&mut tx, data.cursor()?).await?,
                    Kind::ReplayMissing => at.send_missing(&mut tx, data.cursor()?).await?,
                };
                data.cursor = done.last.map(|last| last.to_string()).or(data.cursor);
                data.looked += done.looked as i64;
                data.sent += done.sent as i64;
                (if done.more { Stage::Running } else { Stage::Finished }, done.sent)
            }
        };
        const NOTE: &str = "UPDATE background SET data = $2, state = $3, updated_at = $4 WHERE id = $1";
        let text = codec::json(&data)?;
        on!(tx, db => {
            sqlx::query(NOTE).bind(turn.id).bind(text).bind(stage.word()).bind(now).execute(db).await.map(drop)
        })?;
        tx.commit().await?;
        if sent > 0 {
            self.inner.signals.send(Signal::Look(id));
        }
        Ok(if stage == Stage::Running { Stepped::More(next) } else { Stepped::Ended(stage) })
    }

    /// The endpoint as it is inside `tx`; `None`: it is deleted.
    async fn endpoint_in(&self, tx: &mut Tx, app: AppId, id: EndpointId) -> Result<Option<Endpoint>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {ENDPOINT} FROM endpoint WHERE id = $1 AND app_id = $2 AND deleted_at IS NULL"
        ));
        let row: Option<EndpointRow> = on!(tx, db => sqlx::query_as(sql).bind(id).bind(app).fetch_optional(db).await)?;
        Ok(row.map(|row| row.endpoint(&self.inner.master)))
    }

    /// Forgets background work that ended before `before`.
    ///
    /// # Errors
    /// The store is away.
    pub async fn forget_background(&self, before: Time) -> Result<(), StoreError> {
        const SQL: &str = "DELETE FROM background WHERE state <> 'running' AND updated_at < $1";
        let mut tx = self.begin().await?;
        on!(tx, db => sqlx::query(SQL).bind(before).execute(db).await.map(drop))?;
        tx.commit().await
    }
}
