//! The house stands: arrows between the floors run downward, the ground floors have no clock and no I/O, every file says
//! what it is for, the two stores have the same migrations, and things have their one name.
//!
//! The floors: `domain` ← `store` ← {`engine`, `api`, `dashboard`} ← `app` ← `cli`, `main`; `egress` stands on `domain`.
//! `floors/rules.rs` has the rules, `floors/source.rs` reads Rust well enough for them. The last tests here show
//! each rule a bad sample, so that a rule that can't fail is noticed.

#[path = "floors/rules.rs"]
mod rules;
#[path = "floors/source.rs"]
mod source;
#[path = "support/sources.rs"]
mod texts;

use std::fs;
use std::path::Path;

use rules::Violation;

/// A file of the house: its path from the repository's root, and its text.
type File = (String, String);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All `.rs` files under `src/`, sorted.
fn sources() -> Vec<File> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join("src")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("an entry of src").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                let name = path.strip_prefix(root()).expect("under the root").to_string_lossy().replace('\\', "/");
                found.push((name, text));
            }
        }
    }
    found.sort();
    assert!(found.len() > 1, "found no sources under {}/src", root().display());
    found
}

/// The sources without the files that are compiled for tests only.
fn sources_for_production() -> Vec<File> {
    let all = sources();
    let tests: Vec<Vec<String>> = all.iter().flat_map(|(file, text)| rules::test_modules(file, text)).collect();
    let is_test = |file: &str| tests.iter().any(|module| rules::module_of(file).starts_with(module));
    all.into_iter().filter(|(file, _)| !is_test(file)).collect()
}

fn assert_none(violations: &[Violation]) {
    let list: Vec<String> = violations.iter().map(Violation::to_string).collect();
    assert!(list.is_empty(), "{} violation(s):\n{}", list.len(), list.join("\n"));
}

fn check(files: &[File], rule: impl Fn(&str, &str) -> Vec<Violation>) {
    assert_none(&files.iter().flat_map(|(file, text)| rule(file, text)).collect::<Vec<_>>());
}

#[test]
fn arrows_run_downward() {
    check(&sources_for_production(), rules::arrows);
}

#[test]
fn time_is_an_argument_and_the_domain_does_no_io() {
    check(&sources_for_production(), rules::purity);
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    check(&sources(), |file, text| rules::opening(file, text).into_iter().collect());
}

#[test]
fn things_have_their_one_name() {
    check(&sources(), rules::words);
}

#[test]
fn both_stores_have_the_same_migrations() {
    let names = |folder: &str| -> Vec<String> {
        let path = root().join("migrations").join(folder);
        let entries = fs::read_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    };
    let found = rules::migrations(&names("sqlite"), &names("postgres"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_test_that_the_threat_model_names_is_there() {
    let page = fs::read_to_string(root().join("docs/threat-model.md")).expect("a page");
    let sources = ["tests", "src"].map(texts::texts).concat();
    let named = page.split('`').skip(1).step_by(2).filter(|name| name.len() >= 20 && name.contains('_'));
    let named: Vec<&str> =
        named.filter(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b"_0123456789".contains(&b))).collect();
    assert!(named.len() > 50, "{named:?}");
    let missing: Vec<&str> = named.into_iter().filter(|name| !sources.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "docs/threat-model.md names tests that are not there: {missing:?}");
}

/// The rules, shown bad samples (they must fail) and good ones that look alike (they must not).
mod samples {
    use super::rules::{arrows, migrations, opening, purity, test_modules, words};

    fn lines(violations: &[super::Violation]) -> Vec<usize> {
        violations.iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn an_upward_arrow_is_found_however_it_is_written() {
        let source = "//! Doc.\n\
            use crate::engine::lanes::Lane;\n\
            use crate::{\n    domain::Time,\n    api::{auth, errors as e},\n};\n\
            use super::super::dashboard::*;\n\
            fn f() { let c = crate::config::Config::default(); }\n\
            pub use sendoff::app::run;\n\
            type T = Vec<crate::cli::Serve>;\n";
        let found = arrows("src/store/accept.rs", source);
        assert_eq!(lines(&found), [2, 5, 5, 7, 8, 9, 10], "{found:#?}");
        assert_eq!(
            found[0].to_string(),
            "src/store/accept.rs:2: `crate::engine::lanes::Lane` leads from `store` to `engine`; store may use only domain, crash, supervisor"
        );
    }

    #[test]
    fn siblings_do_not_see_each_other_and_egress_sees_the_domain_only() {
        for (file, path) in [
            ("src/api/app.rs", "crate::engine::Engine"),
            ("src/api/app.rs", "crate::dashboard::page"),
            ("src/engine/runtime/relay_loop.rs", "crate::api::errors"),
            ("src/dashboard/mod.rs", "super::engine::Engine"),
            ("src/egress/mod.rs", "crate::store::Store"),
            ("src/domain/ids.rs", "crate::store::Store"),
            ("src/engine/runtime/attempt_sender.rs", "crate::config::Config"),
            ("src/app.rs", "crate::cli::serve"),
        ] {
            assert_eq!(arrows(file, &format!("use {path};")).len(), 1, "{file} {path}");
        }
        for (file, path) in [
            ("src/engine/runtime/attempt_sender.rs", "crate::egress::Client"),
            ("src/api/resources/endpoint/mod.rs", "crate::egress::vet"),
            ("src/app.rs", "crate::telemetry::start"),
            ("src/cli/serve.rs", "sendoff::app::run"),
            ("src/main.rs", "sendoff::cli::run"),
            ("src/lib.rs", "crate::engine::Engine"),
        ] {
            assert!(arrows(file, &format!("use {path};")).is_empty(), "{file} {path}");
        }
    }

    #[test]
    fn the_root_is_no_way_around() {
        for source in [
            "use crate::*;",
            "use crate as house;",
            "use super::super::*;",
            "use crate::Engine;",
            "use crate::{self as c};",
        ] {
            assert_eq!(arrows("src/store/accept.rs", source).len(), 1, "{source}");
        }
        assert_eq!(arrows("src/misc.rs", "fn f() {}").len(), 1, "a module that is no floor");
    }

    #[test]
    fn what_only_looks_like_an_arrow_is_none() {
        let source = r##"//! See [`crate::engine`].
            use super::{codec, Store}; use self::inner::x; use crate::domain::{self, Time};
            /* crate::engine::x /* nested */ crate::api::y */
            const A: &str = "crate::engine::x"; const B: &str = r#"use crate::api; "crate::app""#;
            pub(crate) fn f<'a>(x: &'a str) -> char { crate::row!(x); '"' }
            pub(in crate::store) fn g() { std::mem::drop(b'\''); }
            mod inner { use super::super::Store; use super::x; }
            #[cfg(test)] use crate::engine::Engine;
            #[cfg(test)] #[allow(dead_code)] mod tests { use crate::engine::{Engine, x}; }
            #[tokio::test] async fn t() { crate::app::run(); }
            "##;
        assert_eq!(arrows("src/store/accept.rs", source), []);
        let after = format!("{source}\nuse crate::engine::Engine;");
        assert_eq!(arrows("src/store/accept.rs", &after).len(), 1, "the reader lost its way");
    }

    #[test]
    fn code_that_is_not_for_tests_alone_counts() {
        for attribute in
            ["#[cfg(not(test))]", "#[cfg(any(test, unix))]", "#[cfg_attr(test, allow(unused))]", "#[inline]"]
        {
            let source = format!("{attribute}\nfn f() {{ crate::engine::run() }}");
            assert_eq!(lines(&arrows("src/store/mod.rs", &source)), [2], "{attribute}");
        }
        let inside = "mod outer { mod inner { use super::super::super::engine::Engine; } }";
        assert_eq!(arrows("src/store/mod.rs", inside).len(), 1);
        let module = vec!["store".to_owned(), "tests".to_owned()];
        assert_eq!(test_modules("src/store/mod.rs", "#[cfg(test)]\nmod tests;\nmod accept;"), [module]);
    }

    #[test]
    fn clocks_and_io_are_found_below_the_engine() {
        let source = "use std::{fmt, fs};\nuse tokio::sync::Mutex;\nfn f(c: &Clock) { Time::now(); std::time::Instant::now(); c.now(); }";
        assert_eq!(lines(&purity("src/domain/deliveries/message.rs", source)), [1, 2, 3, 3, 3]);
        assert_eq!(lines(&purity("src/store/accept.rs", source)), [3, 3], "a store has I/O, and may measure");
        assert_eq!(purity("src/engine/runtime/relay_loop.rs", source), []);
        assert_eq!(
            purity("src/domain/deliveries/backoff.rs", "fn f(now: Time) { let later = now.plus(x); g(now) }"),
            []
        );
    }

    #[test]
    fn words_that_we_do_not_use_are_found_as_names() {
        for bad in [
            "struct JobQueue;",
            "enum Task {}",
            "fn run_jobs() {}",
            "mod utils;",
            "mod helper {}",
            "trait LeaseManager {}",
            "const DESTINATION: u8 = 1;",
            "fn process() {}",
            "fn process_messages() {}",
        ] {
            assert_eq!(words("src/engine/core/lanes/mod.rs", bad).len(), 1, "{bad}");
        }
        for good in [
            "fn f() { tokio::task::spawn(x); let task = 1; }",
            "/// A job. fn job() {}\nstruct Jobber;",
            "fn process_cpu() {}",
            "struct BackgroundTaskOut;",
            "const S: &str = \"fn job() {}\";",
            "fn subtask() {}",
        ] {
            assert_eq!(words("src/engine/core/lanes/mod.rs", good), [], "{good}");
        }
        assert_eq!(words("src/api/background_task.rs", "struct TaskOut;"), [], "the REST dialect's word");
    }

    #[test]
    fn a_file_without_an_opening_is_found() {
        assert!(opening("src/a.rs", "use x;\n//! Late.").is_some());
        assert!(opening("src/a.rs", "//!\nuse x;").is_some());
        assert!(opening("src/a.rs", "// Not a doc.\n").is_some());
        assert!(opening("src/a.rs", "").is_some());
        assert!(opening("src/a.rs", "\n//! What it is for.\n").is_none());
    }

    #[test]
    fn migrations_that_differ_are_found() {
        let names = |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        assert!(migrations(&names(&["0002_b.sql", "0001_a.sql"]), &names(&["0001_a.sql", "0002_b.sql"])).is_empty());
        for (sqlite, postgres) in [
            (&["0001_a.sql", "0002_b.sql"][..], &["0001_a.sql"][..]),
            (&["0001_a.sql"], &["0001_b.sql"]),
            (&["0001_a.sql", "0003_b.sql"], &["0001_a.sql", "0003_b.sql"]),
            (&["1_a.sql"], &["1_a.sql"]),
            (&["0001_A b.sql"], &["0001_A b.sql"]),
            (&[], &[]),
        ] {
            assert!(!migrations(&names(sqlite), &names(postgres)).is_empty(), "{sqlite:?} {postgres:?}");
        }
    }
}
