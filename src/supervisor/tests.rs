//! Tasks that panic and end.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("timed out waiting for {what}");
}

#[tokio::test]
async fn an_essential_component_that_panics_is_lost_and_the_first_one_counts() {
    let supervisor = Supervisor::default();
    assert_eq!(supervisor.lost(), None);
    supervisor.essential(Component::Recorder, async { panic!("on purpose") });
    assert_eq!(supervisor.down().await, Component::Recorder);
    supervisor.essential(Component::EventLoop, async { panic!("on purpose") }).await.unwrap();
    assert_eq!(supervisor.lost(), Some(Component::Recorder));
}

#[tokio::test]
async fn an_essential_component_that_ends_is_lost_unless_expected() {
    let supervisor = Supervisor::default();
    supervisor.essential(Component::Writer, async {}).await.unwrap();
    assert_eq!(supervisor.lost(), Some(Component::Writer));

    let supervisor = Supervisor::default();
    supervisor.expect_ends();
    supervisor.essential(Component::Writer, async {}).await.unwrap();
    assert_eq!(supervisor.lost(), None);
    supervisor.essential(Component::Writer, async { panic!("on purpose") }).await.unwrap();
    assert_eq!(supervisor.lost(), Some(Component::Writer), "a panic is never expected");
}

#[tokio::test]
async fn a_component_that_panics_is_named_and_not_one_that_ends_with_it() {
    let supervisor = Supervisor::default();
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    // Ends first, because the other task drops its channel before it panics.
    let ended = supervisor.essential(Component::Recorder, async { drop(receiver.await) });
    supervisor
        .essential(Component::EventLoop, async move {
            drop(sender);
            tokio::task::yield_now().await;
            panic!("on purpose")
        })
        .await
        .unwrap();
    ended.await.unwrap();
    assert_eq!(supervisor.lost(), Some(Component::EventLoop));
}

#[tokio::test]
async fn a_loop_that_panics_or_ends_is_restarted() {
    let (supervisor, starts) = (Supervisor::default(), Arc::new(AtomicUsize::new(0)));
    let noted = Arc::clone(&starts);
    let running = supervisor.restarting(Component::Relay, move || {
        let nth = noted.fetch_add(1, Ordering::SeqCst);
        async move {
            match nth {
                0 => panic!("on purpose"),
                1 => {}
                _ => std::future::pending().await,
            }
        }
    });
    until("three starts", || starts.load(Ordering::SeqCst) == 3).await;
    running.abort();
    assert_eq!(supervisor.lost(), None, "the process goes on");
}

#[test]
fn restart_backoff_grows_up_to_a_bound() {
    let mut backoff = BACKOFF;
    let waits: Vec<u128> = (0..11).map(|_| backoff.failed().as_millis()).collect();
    assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
}

#[tokio::test]
async fn a_loop_may_end_once_expected() {
    let (supervisor, starts) = (Supervisor::default(), Arc::new(AtomicUsize::new(0)));
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let noted = Arc::clone(&starts);
    let running = supervisor.restarting(Component::Relay, move || {
        noted.fetch_add(1, Ordering::SeqCst);
        stopped.clone().cancelled_owned()
    });
    until("it runs", || starts.load(Ordering::SeqCst) == 1).await;
    supervisor.expect_ends();
    stop.cancel();
    running.await.unwrap();
    assert_eq!(starts.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_restart() {
    let (supervisor, starts) = (Supervisor::default(), Arc::new(AtomicUsize::new(0)));
    let noted = Arc::clone(&starts);
    let failing = supervisor.restarting(Component::Relay, move || {
        noted.fetch_add(1, Ordering::SeqCst);
        async { panic!("on purpose") }
    });
    until("five starts", || starts.load(Ordering::SeqCst) == 5).await;
    supervisor.expect_ends();
    failing.await.unwrap();
    assert_eq!(starts.load(Ordering::SeqCst), 5);
}

#[test]
fn a_pulse_that_stops_is_noticed() {
    let (supervisor, start) = (Supervisor::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(supervisor.silent(at(1_000)), None, "there is no pulse");
    let pulse = supervisor.pulse(Component::EventLoop, Duration::from_secs(5), start);
    let _other = supervisor.pulse(Component::LeaseKeeper, Duration::from_secs(10), start);
    assert_eq!(supervisor.silent(at(5)), None);
    assert_eq!(supervisor.silent(at(6)), Some((Component::EventLoop, Duration::from_secs(6))));
    pulse.beat(at(6));
    assert_eq!(supervisor.silent(at(10)), None);
    assert_eq!(supervisor.silent(at(11)), Some((Component::LeaseKeeper, Duration::from_secs(11))));
    let _again = supervisor.pulse(Component::LeaseKeeper, Duration::from_secs(10), at(11));
    assert_eq!(supervisor.silent(at(11)), None, "the new pulse replaces the old one");
}

#[tokio::test]
async fn a_guard_returns_the_result_or_the_panic() {
    assert_eq!(Component::Read.guard(async { 7 }).await, Ok(7));
    let failed: Result<(), String> = Component::Read.guard(async { panic!("on {}", "purpose") }).await;
    assert_eq!(failed, Err("panicked: on purpose".to_owned()));
}

#[test]
fn every_name_has_one_word() {
    let words: std::collections::BTreeSet<&str> = Component::ALL.iter().map(|one| one.word()).collect();
    assert_eq!(words.len(), Component::ALL.len());
}
