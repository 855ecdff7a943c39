//! Writes an order and its event to the outbox in one transaction, with sqlx on PostgreSQL.
//!
//! ```text
//! DATABASE_URL=postgres://shop@localhost/shop cargo run --example outbox_sqlx acme
//! ```
//!
//! For the table of `sendoff relay`, use `sendoff_outbox` instead of `sendoff.outbox`.

use sqlx::{Connection, PgConnection};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let application = std::env::args().nth(1).ok_or("expected an application")?;
    place_order(&std::env::var("DATABASE_URL")?, &application).await?;
    println!("the order and its event are committed");
    Ok(())
}

pub async fn place_order(database_url: &str, application: &str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(database_url).await?;
    sqlx::query("CREATE TABLE IF NOT EXISTS shop_sqlx_order (id BIGSERIAL PRIMARY KEY, total FLOAT8 NOT NULL)")
        .execute(&mut connection)
        .await?;

    // Rolls back if it is dropped before the commit.
    let mut transaction = connection.begin().await?;
    let order: i64 = sqlx::query_scalar("INSERT INTO shop_sqlx_order (total) VALUES ($1) RETURNING id")
        .bind(48.5)
        .fetch_one(&mut *transaction)
        .await?;
    sqlx::query("INSERT INTO sendoff.outbox (application, event_type, payload, event_id) VALUES ($1, $2, $3, $4)")
        .bind(application)
        .bind("order.created")
        .bind(format!(r#"{{"orderId": {order}, "total": 48.5}}"#))
        .bind(format!("sqlx-order-{order}-created"))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}
