//! `/metrics` of a relay, on `SENDOFF_ADMIN_LISTEN`.

use std::net::SocketAddr;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpResponse, HttpServer, web};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::cli::CliError;
use crate::telemetry;

/// Maximum connections; a scraper needs one.
const MAX_CONNECTIONS: usize = 64;

/// Starts the listener in the background.
pub(super) fn start(address: SocketAddr) -> Result<ServerHandle, CliError> {
    let failed = |what: String| CliError::Failed(format!("--admin-listen {address}: {what}"));
    let handle = telemetry::count().map_err(|error| failed(error.to_string()))?;
    let server = HttpServer::new(move || {
        let handle = handle.clone();
        App::new().service(web::resource("/metrics").get(move || respond(handle.clone())))
    });
    let server = server.workers(1).max_connections(MAX_CONNECTIONS).disable_signals().bind(address);
    let server = server.map_err(|error| failed(error.to_string()))?.run();
    let stop = server.handle();
    tokio::spawn(server);
    Ok(stop)
}

async fn respond(metrics: PrometheusHandle) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(metrics.render())
}
