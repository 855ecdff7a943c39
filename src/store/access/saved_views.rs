//! Saved views of operators' accounts.

use crate::domain::access::saved_view::{SavedView, ViewList};
use crate::domain::{Invalid, OperatorId, OrgId, Time, limits};
use crate::store::{Store, StoreError, Tx, on, read};

impl Store {
    /// The account's views of an organization, by name.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn saved_views(&self, org: &OrgId, operator: OperatorId) -> Result<Vec<SavedView>, StoreError> {
        const SQL: &str =
            "SELECT name, list, query FROM saved_view WHERE operator_id = $1 AND org = $2 ORDER BY name LIMIT $3";
        let most = limits::SAVED_VIEWS as i64;
        let rows: Vec<(String, String, String)> =
            read!(self, db => sqlx::query_as(SQL).bind(operator).bind(org).bind(most).fetch_all(db).await)?;
        let view = |(name, list, query): (String, String, String)| {
            Some(SavedView { name, list: ViewList::from_word(&list)?, query })
        };
        Ok(rows.into_iter().filter_map(view).collect())
    }

    /// Saves a view. It replaces one of the same name.
    ///
    /// # Errors
    /// The account has reached its limit of views of the organization, or the store is unavailable.
    pub async fn save_view(
        &self,
        org: &OrgId,
        operator: OperatorId,
        view: &SavedView,
        now: Time,
    ) -> Result<(), StoreError> {
        const COUNT: &str = "SELECT count(*) FROM saved_view WHERE operator_id = $1 AND org = $2 AND name <> $3";
        const SQL: &str = "INSERT INTO saved_view (operator_id, org, name, list, query, created_at)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (operator_id, org, name) DO UPDATE SET list = excluded.list, query = excluded.query";
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            let others: i64 = on!(tx, db => {
                sqlx::query_scalar(COUNT).bind(operator).bind(org).bind(&view.name).fetch_one(db).await
            })?;
            if others >= limits::SAVED_VIEWS as i64 {
                let full = format!("there are already {} views; delete one first", limits::SAVED_VIEWS);
                return Err(StoreError::Invalid(vec![Invalid::new("name", full)]));
            }
            on!(tx, db => {
                sqlx::query(SQL)
                    .bind(operator).bind(org).bind(&view.name).bind(view.list.word()).bind(&view.query).bind(now)
                    .execute(db).await.map(drop)
            })?;
            tx.commit().await
        })
        .await
    }

    /// Deletes a view. `false`: there is none with this name.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn delete_view(&self, org: &OrgId, operator: OperatorId, name: &str) -> Result<bool, StoreError> {
        const SQL: &str = "DELETE FROM saved_view WHERE operator_id = $1 AND org = $2 AND name = $3";
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            let deleted = on!(tx, db => {
                let delete = sqlx::query(SQL).bind(operator).bind(org).bind(name).execute(db).await;
                delete.map(|done| done.rows_affected())
            })?;
            tx.commit().await?;
            Ok(deleted > 0)
        })
        .await
    }
}

/// Deletes all views of an account, with the account.
pub(super) async fn delete_views(tx: &mut Tx, operator: OperatorId) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM saved_view WHERE operator_id = $1";
    Ok(on!(tx, db => sqlx::query(SQL).bind(operator).execute(db).await.map(drop))?)
}
