//! PostgreSQL behind TLS with a private CA, and behind several hosts.

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::api::Api;
use super::way::Way;
use crate::support::{Binary, Durability, Postgres, Receiver, SOON, complaint, eventually, free_port};

/// A file of `tests/certificates`.
fn certificate(name: &str) -> String {
    format!("{}/tests/certificates/{name}.pem", env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_private_ca_is_verified() {
    let postgres = Postgres::start_with_tls(Durability::Off, &certificate("good"), &certificate("key"));
    let plain = postgres.fresh_database();
    let named = plain.replace("@127.0.0.1:", "@localhost:");
    let root = certificate("root");
    let url = format!("{named}?sslmode=verify-full&sslrootcert={root}");
    let api = Api::at(&url, &[]);
    let receiver = Receiver::ok();
    api.customer(receiver.url("/")).await;
    assert_eq!(api.send().await.0, 202);
    receiver.wait_for(1, SOON).await;
    let sql = "DO $$ BEGIN IF (SELECT count(*) FILTER (WHERE ssl) = 0 OR count(*) FILTER (WHERE NOT ssl) > 0
             FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'sendoff')
         THEN RAISE 'a session without TLS'; END IF; END $$";
    postgres.execute(sql);
    drop(api);

    let told = |url: &str| complaint(&Binary::on(url).run(&["migrate"]), 1);
    let unknown = told(&format!("{named}?sslmode=verify-full"));
    assert!(unknown.contains("sslrootcert=/path/ca.pem") && unknown.contains("localhost"), "{unknown}");
    let other_name = told(&format!("{plain}?sslmode=verify-full&sslrootcert={root}"));
    assert!(other_name.contains("verify-full requires the host name"), "{other_name}");
    let missing = told(&format!("{named}?sslmode=verify-full&sslrootcert=/none/such.pem"));
    assert!(missing.contains("SENDOFF_DATABASE_URL names a file for sslrootcert that can't be read"), "{missing}");
    let by_ca = Binary::on(&format!("{plain}?sslmode=verify-ca&sslrootcert={root}")).run(&["migrate"]);
    assert!(by_ca.status.success(), "{by_ca:?}");
}

/// The same database by several ways, of which one is open at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_that_answers_is_used_with_failover_to_another() {
    let url = Postgres::shared().fresh_database();
    let parsed: url::Url = url.parse().expect("a URL");
    let address = parsed.socket_addrs(|| None).expect("an address")[0];
    let ports = [free_port(), free_port()];
    let hosts = ports.map(|port| format!("127.0.0.1:{port}")).join(",");
    let url = url.replace(&address.to_string(), &hosts);
    let nobody = complaint(&Binary::on(&url).run(&["migrate"]), 1);
    assert!(nobody.contains(&hosts.replace(',', " or ")), "{nobody}");

    let mut way = Way::open(ports[1], address);
    let api = Api::at(&url, &[]);
    let receiver = Receiver::ok();
    api.customer(receiver.url("/")).await;
    for (number, port) in [ports[0], ports[1], ports[0]].into_iter().enumerate() {
        eventually("a message is accepted", SOON, async || (api.send().await.0 == 202).then_some(())).await;
        receiver.wait_for(number + 1, SOON).await;
        drop(way);
        way = Way::open(port, address);
        eventually("it is ready again", SOON, async || (api.server.get_status("/readyz") == Some(200)).then_some(()))
            .await;
    }
    assert_eq!(api.server.get_status("/readyz"), Some(200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_takes_no_writes_is_passed_over() {
    let reads = Postgres::start_with(Durability::Off, "-c default_transaction_read_only=on");
    let writes = Postgres::start(Durability::Off);
    let ports = [&reads, &writes].map(|server| server.address().to_string());
    let url = format!("postgres://sendoff@{}/postgres?target_session_attrs=read-write", ports.join(","));
    let api = Api::at(&url, &[]);
    api.post("/app", json!({"name": "A"})).await;
    let standby = url.replace("read-write", "standby");
    let told = complaint(&Binary::on(&standby).run(&["migrate"]), 1);
    assert!(told.contains("asks for a read-only server"), "{told}");
}

/// Where another process owns the tables and makes partitions, one that only reads and writes them needs no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_only_read_and_write_starts_on_a_current_schema() {
    let url = Postgres::shared().fresh_database();
    let owner = Api::at(&url, &[]);
    let receiver = Receiver::ok();
    owner.customer(receiver.url("/")).await;
    assert_eq!(owner.send().await.0, 202);
    let role = format!("writer_{}", std::process::id());
    let mut connection = PgConnection::connect(&url).await.expect("a connection");
    for sql in [
        format!("CREATE ROLE {role} LOGIN"),
        format!("GRANT USAGE ON SCHEMA sendoff TO {role}"),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA sendoff TO {role}"),
        format!("GRANT USAGE ON ALL SEQUENCES IN SCHEMA sendoff TO {role}"),
    ] {
        connection.execute(AssertSqlSafe(sql)).await.expect("a right");
    }
    let plain = url.replace("sendoff@", &format!("{role}@"));
    let writer = Api { token: owner.token.clone(), ..Api::at(&plain, &[("SENDOFF_ROLE", "api")]) };
    assert_eq!(writer.send().await.0, 202);
    receiver.wait_for(2, SOON).await;
    drop(writer);
    connection.execute(AssertSqlSafe(format!("DROP OWNED BY {role}; DROP ROLE {role}"))).await.expect("it goes");
}
