//! The store against its model: random sequences of what callers, engines and the sweep do, done to SQLite, to PostgreSQL and to plain
//! maps that follow the methods' documentation. Every answer and everything that can be read must be the same.
//!
//! * `acts`, `sequences` – what is done, and how often; `model`, `rules`, `things`, `work` – what has to come of it; `run` – does it, and compares the
//!   answers; `views` – compares what can be read. `pairs` – two at once, which must come to what one after the other would.
//! * `covered` – which methods of the store are held against the model, and why the others are not.
//!
//! A sequence comes of a seed. One that fails is shortened, and says how it is done again: `SENDOFF_TEST_SEED=… cargo test …` runs that
//! one alone. `SENDOFF_TEST_CASES` says how many are run.

#[path = "../support/mod.rs"]
mod support;

#[macro_use]
#[allow(dead_code, unused_macros)]
#[path = "../store/home.rs"]
mod home;

mod acts;
mod covered;
mod model;
mod pairs;
mod rules;
mod run;
mod sequences;
mod things;
mod views;
mod work;

use std::cell::RefCell;
use std::env;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard};

use proptest::strategy::Strategy as _;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use tokio::runtime::Runtime;

use acts::Act;
use run::{House, Ran};
use sequences::sequence;

/// Ids grow with the time that they are made for, in all of the process: the tests of this program run one by one.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number, and is {text:?}")))
}

/// The seeds of this run: the one that is asked for, or so many from the first.
fn seeds(first: u64, count: u64) -> Vec<u64> {
    let count = number("SENDOFF_TEST_CASES").unwrap_or(count);
    number("SENDOFF_TEST_SEED").map_or_else(|| (first..first + count).collect(), |seed| vec![seed])
}

/// The random numbers of a seed.
fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config =
        Config { failure_persistence: None, max_shrink_iters: 3_000, max_shrink_time: 60_000, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// Runs the sequence of each seed, of up to `length` acts.
fn hold(test: &str, seeds: Vec<u64>, length: usize) {
    let _alone = alone();
    let runtime = runtime();
    let houses = runtime.block_on(async { (House::sqlite().await, House::postgres().await) });
    let (houses, mut slow) = (RefCell::new(houses), 0);
    let count = seeds.len();
    for seed in seeds {
        let mut runner = runner(seed);
        let tree = sequence(length, seed).new_tree(&mut runner).expect("a sequence");
        let ran = RefCell::new(Ran::Through);
        let done = runner.run_one(tree, |acts| {
            let (sqlite, postgres) = &mut *houses.borrow_mut();
            let done = runtime.block_on(run::run(sqlite, postgres, &acts)).map_err(TestCaseError::fail)?;
            *ran.borrow_mut() = done;
            Ok(())
        });
        slow += usize::from(*ran.borrow() == Ran::TooSlow);
        if let Err(error) = done {
            panic!("{}", complaint(test, seed, error));
        }
    }
    assert!(slow * 4 <= count.max(4), "{slow} of {count} sequences took longer than a lease: the machine is too busy");
}

/// What went wrong, and how it is done again.
fn complaint(test: &str, seed: u64, error: TestError<Vec<Act>>) -> String {
    let TestError::Fail(reason, acts) = error else { return error.to_string() };
    let mut text = format!("seed {seed}: {reason}\n\nAfter these, the shortest sequence that was found:\n");
    acts.iter().for_each(|act| writeln!(text, "  {act:?}").expect("a text"));
    let _ = writeln!(
        text,
        "\nAgain: SENDOFF_TEST_SEED={seed} cargo test --locked --test store_model -- --include-ignored --exact {test}"
    );
    text
}

#[test]
fn both_stores_do_what_the_model_does() {
    hold("both_stores_do_what_the_model_does", seeds(1, 45), 60);
}

#[test]
#[ignore = "long: `make chaos` runs it"]
fn both_stores_do_what_the_model_does_for_long() {
    hold("both_stores_do_what_the_model_does_for_long", seeds(1_000_000, 1_500), 120);
}
