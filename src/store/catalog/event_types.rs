//! The catalog of event types: create, read, update, archive, delete, list.

use crate::domain::access::audit::action;
use crate::domain::catalog::event_type::{EventType, EventTypeSpec};
use crate::domain::catalog::payload_schema::PayloadValidation;
use crate::domain::{Invalid, OrgId, Time, limits};
use crate::store::access::audit::NewAuditEntry;
use crate::store::catalog::applications::Upserted;
use crate::store::catalog::change::UpdateResult;
use crate::store::db::codec;
use crate::store::db::codec::from_row;
use crate::store::db::store_error::is_taken;
use crate::store::{Backend, Page, PageRequest, Store, StoreError, Tenant, Tx, on, read};

from_row! {
    struct Row {
        org: OrgId,
        name: String,
        description: String,
        archived: bool,
        deprecated: bool,
        feature_flags: String,
        group_name: Option<String>,
        schemas: Option<String>,
        validation: String,
        created_at: Time,
        updated_at: Time,
    }
}

impl Row {
    fn event_type(self) -> Result<EventType, StoreError> {
        let spec = EventTypeSpec {
            name: self.name,
            description: self.description,
            archived: self.archived,
            deprecated: self.deprecated,
            feature_flags: codec::from_json(&self.feature_flags)?,
            group_name: self.group_name,
            schemas: codec::from_json_opt(self.schemas.as_deref())?,
            validation: PayloadValidation::from_word(&self.validation).unwrap_or_default(),
        };
        Ok(EventType { org: self.org, spec, created_at: self.created_at, updated_at: self.updated_at })
    }
}

const COLUMNS: &str = Row::COLUMNS;
const INSERT: &str = "INSERT INTO event_type
         (org, name, description, archived, deprecated, feature_flags, group_name, schemas, created_at, updated_at,
          validation)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10)";
const REVIVE: &str = "UPDATE event_type SET description = $3, archived = $4, deprecated = $5, feature_flags = $6,
         group_name = $7, schemas = $8, updated_at = $9, validation = $10
     WHERE org = $1 AND name = $2 AND archived = TRUE";
const REPLACE: &str = "UPDATE event_type SET description = $3, archived = $4, deprecated = $5, feature_flags = $6,
         group_name = $7, schemas = $8, updated_at = $9, validation = $10
     WHERE org = $1 AND name = $2";

impl Store {
    /// Creates an event type, or restores an archived one of the same name.
    ///
    /// # Errors
    /// An unarchived event type has the name, or the store is unavailable.
    pub async fn create_event_type(
        &self,
        tenant: &Tenant,
        spec: EventTypeSpec,
        now: Time,
    ) -> Result<EventType, StoreError> {
        match self.event_type(tenant, &spec.name).await? {
            Some(found) if found.spec.archived => {
                self.write_event_type(tenant, REVIVE, &spec, now).await?;
                Ok(EventType { spec, updated_at: now, ..found })
            }
            Some(found) => {
                // An earlier attempt of the same request may have created it.
                let repeated = match self.idempotency_key.as_deref() {
                    Some(key) => self.prior_request(key).await?.is_some(),
                    None => false,
                };
                let taken = || StoreError::Taken(format!("the event type {}", found.spec.name));
                Err(if repeated { StoreError::Repeated } else { taken() })
            }
            None => {
                self.write_event_type(tenant, INSERT, &spec, now).await?;
                Ok(EventType { org: tenant.org.clone(), spec, created_at: now, updated_at: now })
            }
        }
    }

    /// Creates or replaces an event type.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn put_event_type(
        &self,
        tenant: &Tenant,
        spec: EventTypeSpec,
        now: Time,
    ) -> Result<Upserted<EventType>, StoreError> {
        match self.event_type(tenant, &spec.name).await? {
            Some(found) => {
                self.write_event_type(tenant, REPLACE, &spec, now).await?;
                Ok(Upserted::Replaced(EventType { spec, updated_at: now, ..found }))
            }
            None => match self.create_event_type(tenant, spec.clone(), now).await {
                // Created concurrently: replace it.
                Err(StoreError::Taken(_)) => Box::pin(self.put_event_type(tenant, spec, now)).await,
                made => made.map(Upserted::Created),
            },
        }
    }

    /// Updates the event type to the result of `work`, except for its name. The row is locked meanwhile, so no
    /// concurrent update is lost.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn update_event_type<E>(
        &self,
        tenant: &Tenant,
        name: &str,
        work: impl Fn(&EventType) -> Result<EventTypeSpec, E>,
        now: Time,
    ) -> Result<UpdateResult<EventType, E>, StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            // SQLite has one writer and needs no row lock.
            let lock = match &tx {
                Tx::Sqlite(_) => "",
                Tx::Postgres(_) => " FOR UPDATE",
            };
            let sql =
                sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM event_type WHERE org = $1 AND name = $2{lock}"));
            let row: Option<Row> =
                on!(tx, db => sqlx::query_as(sql).bind(&tenant.org).bind(name).fetch_optional(db).await)?;
            let Some(before) = row.map(Row::event_type).transpose()? else { return Ok(UpdateResult::NotFound) };
            match work(&before) {
                Ok(spec) => {
                    let spec = EventTypeSpec { name: before.spec.name.clone(), ..spec };
                    self.write_in(tx, tenant, REPLACE, &spec, now).await?;
                    Ok(UpdateResult::Updated(EventType { spec, updated_at: now, ..before }))
                }
                Err(refused) => Ok(UpdateResult::Aborted(refused)),
            }
        })
        .await
    }

    async fn write_event_type(
        &self,
        tenant: &Tenant,
        sql: &'static str,
        spec: &EventTypeSpec,
        now: Time,
    ) -> Result<(), StoreError> {
        self.retry_conflicts(|| async { self.write_in(self.begin().await?, tenant, sql, spec, now).await }).await
    }

    /// Writes the event type and commits.
    async fn write_in(
        &self,
        mut tx: Tx,
        tenant: &Tenant,
        sql: &'static str,
        spec: &EventTypeSpec,
        now: Time,
    ) -> Result<(), StoreError> {
        let (flags, schemas) = (codec::json(&spec.feature_flags)?, spec.schemas.as_ref().map(codec::json).transpose()?);
        self.insert_idempotency_key(&mut tx, &spec.name).await?;
        if sql == INSERT {
            const COUNT: &str = "SELECT count(*) FROM (SELECT 1 FROM event_type WHERE org = $1 LIMIT $2) AS found";
            let most = limits::CATALOG as i64;
            let found: i64 = on!(tx, db => sqlx::query_scalar(COUNT).bind(&tenant.org).bind(most).fetch_one(db).await)?;
            if found >= most {
                let reason = format!("cannot be added: the organization has reached its limit of {most} event types");
                return Err(StoreError::Invalid(vec![Invalid::new("name", reason)]));
            }
        }
        let done = on!(tx, db => {
            sqlx::query(sql)
                .bind(&tenant.org).bind(&spec.name).bind(&spec.description).bind(spec.archived).bind(spec.deprecated)
                .bind(flags).bind(&spec.group_name).bind(schemas).bind(now).bind(spec.validation.word())
                .execute(db).await.map(|done| done.rows_affected())
        });
        let taken = || StoreError::Taken(format!("the event type {}", spec.name));
        let written = done.map_err(|error| if is_taken(&error) { taken() } else { error.into() })?;
        // Restored concurrently.
        if sql == REVIVE && written == 0 {
            return Err(taken());
        }
        let detail = if sql == INSERT { "created" } else { "" };
        let changed = NewAuditEntry::of(&tenant.org, action::EVENT_TYPE_CHANGED, &spec.name).with(detail);
        self.commit_audited(tx, changed, now).await?;
        self.inner.payload_checks.forget(&tenant.org, &spec.name);
        Ok(())
    }

    /// The event type of this name, archived or not.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn event_type(&self, tenant: &Tenant, name: &str) -> Result<Option<EventType>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM event_type WHERE org = $1 AND name = $2"));
        let row: Option<Row> =
            read!(self, db => sqlx::query_as(sql).bind(&tenant.org).bind(name).fetch_optional(db).await)?;
        row.map(Row::event_type).transpose()
    }

    /// The names that are not in the catalog, or whose event types are not offered to a customer with these flags.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn event_types_not_offered(
        &self,
        tenant: &Tenant,
        names: &[String],
        flags: &[String],
    ) -> Result<Vec<String>, StoreError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        // Without the schemas, which may be large.
        let rows: Vec<(String, String)> = match &self.inner.backend {
            Backend::Sqlite(backend) => {
                const SQL: &str = "SELECT name, feature_flags FROM event_type
                     WHERE org = $1 AND archived = FALSE AND name IN (SELECT value FROM json_each($2))";
                let names = codec::json(&names)?;
                sqlx::query_as(SQL).bind(&tenant.org).bind(names).fetch_all(&backend.pages).await?
            }
            Backend::Postgres(backend) => {
                const SQL: &str = "SELECT name, feature_flags FROM event_type
                     WHERE org = $1 AND archived = FALSE AND name = ANY($2)";
                sqlx::query_as(SQL).bind(&tenant.org).bind(names).fetch_all(&backend.front).await?
            }
        };
        let mut hidden = names.to_vec();
        for (found, needed) in rows {
            let needed: Vec<String> = codec::from_json(&needed)?;
            if needed.iter().all(|flag| flags.contains(flag)) {
                hidden.retain(|name| *name != found);
            }
        }
        Ok(hidden)
    }

    /// The catalog by name, with or without archived event types.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn event_types(
        &self,
        tenant: &Tenant,
        archived: bool,
        page: &PageRequest<String>,
    ) -> Result<Page<EventType>, StoreError> {
        let (compare, direction) = page.sql();
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM event_type WHERE org = $1 AND name {compare} $2 AND (archived = FALSE OR $3)
             ORDER BY name {direction} LIMIT $4"
        ));
        // '~' sorts after every character allowed in a name.
        let end = if compare == ">" { "" } else { "~" };
        let bound = page.after.as_deref().unwrap_or(end);
        let made = |row: Row| {
            let size = row.description.len() + row.feature_flags.len() + row.schemas.as_ref().map_or(0, String::len);
            row.event_type().map(|event_type| (event_type, size))
        };
        read!(self, db => {
            let rows = sqlx::query_as(sql).bind(&tenant.org).bind(bound).bind(archived).bind(page.rows()).fetch(db);
            page.fill(rows, made).await
        })
    }

    /// A full page of the event types visible to a customer with these feature flags, by name.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn offered_event_types(
        &self,
        tenant: &Tenant,
        flags: &[String],
        page: &PageRequest<String>,
    ) -> Result<Page<EventType>, StoreError> {
        let _scan = self.scan(tenant).await?;
        let mut found: Vec<EventType> = Vec::new();
        let mut next = page.clone();
        loop {
            let read = self.event_types(tenant, false, &next).await?;
            let end = if page.back { read.data.first() } else { read.data.last() };
            next.after = end.map(|end| end.spec.name.clone());
            let some = read.data.into_iter().filter(|event_type| event_type.spec.offered(flags));
            if page.back {
                found = some.chain(found).collect();
            } else {
                found.extend(some);
            }
            if found.len() > page.limit || !read.more {
                break;
            }
        }
        let over = found.len().saturating_sub(page.limit);
        let data = if page.back { found.split_off(over) } else { found.drain(..found.len() - over).collect() };
        Ok(Page { data, more: over > 0 })
    }

    /// Archives the event type, or deletes it (`expunge`). `false` if the name is not in the catalog.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn delete_event_type(
        &self,
        tenant: &Tenant,
        name: &str,
        expunge: bool,
        now: Time,
    ) -> Result<bool, StoreError> {
        self.retry_conflicts(|| async {
            const ARCHIVE: &str = "UPDATE event_type SET archived = TRUE, updated_at = $3 WHERE org = $1 AND name = $2";
            const EXPUNGE: &str = "DELETE FROM event_type WHERE org = $1 AND name = $2";
            let mut tx = self.begin().await?;
            let changed = on!(tx, db => match expunge {
                true => sqlx::query(EXPUNGE).bind(&tenant.org).bind(name).execute(db).await.map(|done| done.rows_affected()),
                false => {
                    sqlx::query(ARCHIVE).bind(&tenant.org).bind(name).bind(now).execute(db).await.map(|done| done.rows_affected())
                }
            })?;
            if changed > 0 {
                let (act, detail) = match expunge {
                    true => (action::EVENT_TYPE_DELETED, ""),
                    false => (action::EVENT_TYPE_CHANGED, "archived"),
                };
                self.audit(&mut tx, NewAuditEntry::of(&tenant.org, act, name).with(detail), now).await?;
            }
            tx.commit().await?;
            self.inner.payload_checks.forget(&tenant.org, name);
            Ok(changed > 0)
        })
        .await
    }
}
