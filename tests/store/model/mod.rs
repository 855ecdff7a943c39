//! The store against a model of it: random sequences of calls by clients, engines and maintenance run on a store and on
//! plain maps that follow the documentation of the methods. Every answer and every view must be the same.
//!
//! * [`acts`] and [`sequences`] – the calls, and how often each is made.
//! * [`state`], [`rules`], [`things`], [`work`] – the model: the maps, and the effect of each call on them.
//! * [`run`] makes the calls and compares the answers; [`views`] compares everything that can be read.
//! * [`pairs`] – two concurrent calls, whose effect must be that of one after the other, in either order.
//! * [`covered`] – the methods that the model covers, and the reasons for leaving out the others.
//!
//! A sequence is generated from a seed. A sequence that fails is shortened, and its message contains the command that
//! repeats it: `SENDOFF_TEST_SEED=…` runs the sequence of one seed, `SENDOFF_TEST_CASES` sets their number.

mod acts;
mod covered;
mod pairs;
mod rules;
mod run;
mod sequences;
mod state;
mod things;
mod views;
mod work;

use std::cell::RefCell;
use std::env;
use std::fmt::Write as _;

use proptest::strategy::Strategy as _;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use crate::support::on_both_alone;
use acts::Act;
use run::{Ran, World};
use sequences::sequence;

on_both_alone! {
    a_store_does_what_the_model_does
    #[ignore = "long: `make chaos` runs it"]
    a_store_does_what_the_model_does_for_long
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}

/// The seeds of this run: the one in the environment, or `count` from `first`.
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
async fn hold(test: &str, world: World, seeds: Vec<u64>, length: usize) {
    let (world, mut slow) = (RefCell::new(world), 0);
    let count = seeds.len();
    for seed in seeds {
        let mut runner = runner(seed);
        let tree = sequence(length, seed).new_tree(&mut runner).expect("a sequence");
        let ran = RefCell::new(Ran::Through);
        let done = runner.run_one(tree, |acts| {
            let world = &mut *world.borrow_mut();
            let done = block_in_place(|| Handle::current().block_on(run::run(world, &acts)));
            *ran.borrow_mut() = done.map_err(TestCaseError::fail)?;
            Ok(())
        });
        slow += usize::from(*ran.borrow() == Ran::TooSlow);
        if let Err(error) = done {
            panic!("{}", complaint(test, seed, error));
        }
    }
    assert!(slow * 4 <= count.max(4), "{slow} of {count} sequences took longer than a lease: the machine is too busy");
}

/// The difference, and the command that repeats it.
fn complaint(test: &str, seed: u64, error: TestError<Vec<Act>>) -> String {
    let TestError::Fail(reason, acts) = error else { return error.to_string() };
    let mut text = format!("seed {seed}: {reason}\n\nAfter these, the shortest sequence that was found:\n");
    acts.iter().for_each(|act| writeln!(text, "  {act:?}").expect("a text"));
    let _ = writeln!(
        text,
        "\nAgain: SENDOFF_TEST_SEED={seed} cargo test --locked --test store -- --include-ignored {test}"
    );
    text
}

async fn a_store_does_what_the_model_does(world: World) {
    hold("a_store_does_what_the_model_does", world, seeds(1, 45), 60).await;
}

async fn a_store_does_what_the_model_does_for_long(world: World) {
    hold("a_store_does_what_the_model_does_for_long", world, seeds(1_000_000, 600), 120).await;
}
