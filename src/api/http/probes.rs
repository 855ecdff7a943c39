//! Probes for load balancers and monitoring, without a token: `/healthz` (the process runs), `/readyz` (it can serve
//! requests) and `/metrics` (Prometheus). None of them reveals stored data.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::web::{self, Data, ServiceConfig};
use serde::Serialize;
use tracing::warn;

use crate::store::{Store, StoreError};
use crate::supervisor::{Component, Supervisor};

/// Maximum response time of the store.
const STORE_TIMEOUT: Duration = Duration::from_secs(3);

/// The state behind the probes; expected as `web::Data<Probes>`.
#[derive(Clone)]
pub struct Probes {
    pub store: Store,
    /// Set when the process begins to shut down.
    pub draining: Arc<AtomicBool>,
    /// Renders all metrics in the Prometheus text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probes").field("draining", &self.draining).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Ready {
    status: &'static str,
}

#[derive(Serialize)]
struct NotReady {
    code: &'static str,
    detail: String,
}

/// Mounts `/healthz`, `/readyz` and `/metrics`.
pub fn routes(config: &mut ServiceConfig) {
    config
        .service(web::resource("/healthz").get(alive).route(web::head().to(alive)))
        .service(web::resource("/readyz").get(ready).route(web::head().to(ready)))
        .service(web::resource("/metrics").get(metrics).route(web::head().to(metrics)));
}

async fn alive() -> HttpResponse {
    HttpResponse::Ok().json(Ready { status: "alive" })
}

async fn ready(probes: Data<Probes>) -> HttpResponse {
    match check_ready(&probes).await {
        Ok(()) => HttpResponse::Ok().json(Ready { status: "ready" }),
        Err(reason) => HttpResponse::ServiceUnavailable().json(reason),
    }
}

async fn check_ready(probes: &Probes) -> Result<(), NotReady> {
    if probes.draining.load(Ordering::Relaxed) {
        let detail = "this process is draining: it finishes the requests in flight and exits".to_owned();
        return Err(NotReady { code: "draining", detail });
    }
    let supervisor = probes.store.supervisor();
    if let Some(lost) = supervisor.lost() {
        let detail = format!("this process lost its {} and is exiting: see the log", lost.word());
        return Err(NotReady { code: "task_lost", detail });
    }
    let away = || NotReady { code: "store_unavailable", detail: "the store does not respond: see the log".to_owned() };
    let now = Instant::now();
    let probe = async {
        probes.store.ready().await?;
        // Reads are not enough: a standby or a read-only database accepts no messages.
        probes.store.writable(now).await
    };
    match tokio::time::timeout(STORE_TIMEOUT, probe).await {
        // Checked only with the store up: when it is down, leases expire too, and the store is the reason to report.
        Ok(Ok(())) => makes_progress(supervisor, Instant::now()),
        // Sendoff's own text about the schema or about writing; it contains nothing from the database.
        Ok(Err(StoreError::Unusable(detail))) => Err(NotReady { code: "store_unusable", detail }),
        Ok(Err(cause)) => {
            warn!(%cause, "not ready: the store does not respond");
            Err(away())
        }
        Err(_) => {
            warn!("not ready: the store did not respond within {} s", STORE_TIMEOUT.as_secs());
            Err(away())
        }
    }
}

/// Whether this process's engine, if it runs one, makes progress.
fn makes_progress(supervisor: &Supervisor, now: Instant) -> Result<(), NotReady> {
    let Some((of, since)) = supervisor.silent(now) else { return Ok(()) };
    let since = since.as_secs();
    Err(match of {
        Component::LeaseKeeper => NotReady {
            code: "leases_expired",
            detail: format!("no heartbeat reached the store for {since} s, so nothing is sent: see the log"),
        },
        of => NotReady {
            code: "engine_stalled",
            detail: format!("the {} has made no progress for {since} s: restart the process", of.word()),
        },
    })
}

async fn metrics(probes: Data<Probes>) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body((probes.metrics)())
}

#[cfg(test)]
mod tests {
    use crate::api::http::probes::*;

    #[test]
    fn a_stalled_loop_is_not_ready() {
        let (supervisor, start) = (Supervisor::default(), Instant::now());
        let code = |seconds| makes_progress(&supervisor, start + Duration::from_secs(seconds)).map_err(|no| no.code);
        assert_eq!(code(1_000), Ok(()), "a process without an engine");
        let turns = supervisor.pulse(Component::EventLoop, Duration::from_secs(5), start);
        let beats = supervisor.pulse(Component::LeaseKeeper, Duration::from_secs(10), start);
        assert_eq!((code(5), code(6)), (Ok(()), Err("engine_stalled")));
        turns.beat(start + Duration::from_secs(11));
        assert_eq!((code(10), code(11)), (Ok(()), Err("leases_expired")));
        beats.beat(start + Duration::from_secs(11));
        assert_eq!(code(12), Ok(()));
    }
}
