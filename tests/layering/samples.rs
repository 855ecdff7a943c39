//! Bad samples, on which each rule must fail, and good ones that look alike, on which it must not.

use std::collections::BTreeSet;

use crate::File;
use crate::prose::prose;
use crate::rules::{Violation, dependencies, doc_examples, migrations, opening, purity, test_modules, words};
use crate::shape::{against, file_names, file_sizes, folder_sizes, invariants, type_names};

fn lines(violations: &[Violation]) -> Vec<usize> {
    violations.iter().map(|violation| violation.line).collect()
}

#[test]
fn an_upward_dependency_is_found_however_it_is_written() {
    let source = "//! Doc.\n\
        use crate::engine::lanes::Lane;\n\
        use crate::{\n    domain::Time,\n    api::{auth, errors as e},\n};\n\
        use super::super::dashboard::*;\n\
        fn f() { let c = crate::config::Config::default(); }\n\
        pub use sendoff::app::run;\n\
        type T = Vec<crate::cli::Serve>;\n";
    let found = dependencies("src/store/accept.rs", source);
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
        assert_eq!(dependencies(file, &format!("use {path};")).len(), 1, "{file} {path}");
    }
    for (file, path) in [
        ("src/engine/runtime/attempt_sender.rs", "crate::egress::Client"),
        ("src/api/resources/endpoint/mod.rs", "crate::egress::vet"),
        ("src/app.rs", "crate::telemetry::start"),
        ("src/cli/serve.rs", "sendoff::app::run"),
        ("src/main.rs", "sendoff::cli::run"),
        ("src/lib.rs", "crate::engine::Engine"),
    ] {
        assert!(dependencies(file, &format!("use {path};")).is_empty(), "{file} {path}");
    }
}

#[test]
fn the_crate_root_hides_no_dependency() {
    for source in
        ["use crate::*;", "use crate as all;", "use super::super::*;", "use crate::Engine;", "use crate::{self as c};"]
    {
        assert_eq!(dependencies("src/store/accept.rs", source).len(), 1, "{source}");
    }
    assert_eq!(dependencies("src/misc.rs", "fn f() {}").len(), 1, "a module that is not a layer");
}

#[test]
fn text_that_only_looks_like_a_dependency_is_none() {
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
    assert_eq!(dependencies("src/store/accept.rs", source), []);
    let after = format!("{source}\nuse crate::engine::Engine;");
    assert_eq!(dependencies("src/store/accept.rs", &after).len(), 1, "the reader stopped early");
}

#[test]
fn code_that_is_not_for_tests_alone_counts() {
    for attribute in ["#[cfg(not(test))]", "#[cfg(any(test, unix))]", "#[cfg_attr(test, allow(unused))]", "#[inline]"] {
        let source = format!("{attribute}\nfn f() {{ crate::engine::run() }}");
        assert_eq!(lines(&dependencies("src/store/mod.rs", &source)), [2], "{attribute}");
    }
    let inside = "mod outer { mod inner { use super::super::super::engine::Engine; } }";
    assert_eq!(dependencies("src/store/mod.rs", inside).len(), 1);
    let module = vec!["store".to_owned(), "tests".to_owned()];
    assert_eq!(test_modules("src/store/mod.rs", "#[cfg(test)]\nmod tests;\nmod accept;"), [module]);
}

#[test]
fn clocks_and_io_are_found_below_the_engine() {
    let source = "use std::{fmt, fs};\nuse tokio::sync::Mutex;\nfn f(c: &Clock) { Time::now(); std::time::Instant::now(); c.now(); }";
    assert_eq!(lines(&purity("src/domain/deliveries/message.rs", source)), [1, 2, 3, 3, 3]);
    assert_eq!(lines(&purity("src/store/accept.rs", source)), [3, 3], "a store does I/O and may measure durations");
    assert_eq!(purity("src/engine/runtime/relay_loop.rs", source), []);
    assert_eq!(purity("src/domain/deliveries/backoff.rs", "fn f(now: Time) { let later = now.plus(x); g(now) }"), []);
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
    assert_eq!(words("src/api/background_task.rs", "struct TaskOut;"), [], "a word of the REST dialect");
}

#[test]
fn a_file_without_an_opening_is_found() {
    assert!(opening("src/a.rs", "use x;\n//! Late.").is_some());
    assert!(opening("src/a.rs", "//!\nuse x;").is_some());
    assert!(opening("src/a.rs", "// Not a doc.\n").is_some());
    assert!(opening("src/a.rs", "").is_some());
    assert!(opening("src/a.rs", "\n//! Its purpose.\n").is_none());
}

#[test]
fn code_in_documentation_is_found() {
    assert_eq!(lines(&doc_examples("src/a.rs", "//! A.\n//! ```\n//! f();\n//! ```\n")), [2]);
    assert_eq!(lines(&doc_examples("src/a.rs", "    /// ```rust\n    /// ```\n")), [1]);
    assert_eq!(doc_examples("src/a.rs", "/// ```text\n/// a -> b\n/// ```\nconst A: &str = \"```\";"), []);
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

fn file(path: &str, text: &str) -> File {
    (path.to_owned(), text.to_owned())
}

#[test]
fn a_folder_with_too_many_files_is_found() {
    let mut files: Vec<File> = (0..15).map(|n| file(&format!("src/a/f{n}.rs"), "")).collect();
    files.extend([file("src/a/mod.rs", ""), file("src/a/b/c.rs", "")]);
    assert_eq!(folder_sizes(&files), []);
    files.push(file("src/a/one_more.rs", ""));
    let found = folder_sizes(&files);
    assert!(found.len() == 1 && found[0].file == "src/a" && found[0].what.starts_with("16 files"), "{found:?}");
}

#[test]
fn a_folder_without_invariants_is_found() {
    let good = "//! One.\n//!\n//! Invariants:\nmod a;";
    assert!(invariants("src/a/mod.rs", good).is_none());
    for bad in ["//! Invariants: none.\nmod a;", "//! One.\n//! Two.\n//! Three.\n", "// Invariants\n//\n//\n", ""] {
        assert!(invariants("src/a/mod.rs", bad).is_some(), "{bad}");
    }
    assert!(invariants("src/a/b.rs", "").is_none() && invariants("src/a/tests/mod.rs", "").is_none());
}

#[test]
fn a_long_file_is_found() {
    let files = [file("src/a.rs", &"x\n".repeat(400)), file("src/b.rs", &"x\n".repeat(401))];
    let found = file_sizes(&files, &[]);
    assert!(found.len() == 1 && found[0].file == "src/b.rs", "{found:?}");
    assert_eq!(file_sizes(&files, &["src/b.rs"]), []);
}

#[test]
fn an_exception_that_is_no_longer_needed_is_found() {
    let found = against(&BTreeSet::from(["a"]), &["a", "b"], "bad");
    assert!(found.len() == 1 && found[0].file == "b", "{found:?}");
}

#[test]
fn a_type_name_with_two_meanings_is_found() {
    for second in
        ["struct Place;", "pub enum Place {}", "trait Place {}", "type Place = u8;", "mod x { struct Place<T>(T); }"]
    {
        let files = [file("src/a.rs", "pub struct Place { a: u8 }"), file("src/b.rs", second)];
        let found = type_names(&files, &[]);
        assert!(found.len() == 1 && found[0].what.ends_with("src/a.rs, src/b.rs"), "{second}: {found:?}");
        assert_eq!(type_names(&files, &["Place"]), []);
    }
    for fine in [
        "use crate::a::Place;",
        "impl A for Place { type Place = u8; fn f() {} }",
        "pub trait A { type Place; }",
        "#[cfg(test)] mod tests { struct Place; }",
        "// struct Place;\nconst A: &str = \"struct Place;\";",
        "struct Places;",
    ] {
        let files = [file("src/a.rs", "pub struct Place { a: u8 }"), file("src/b.rs", fine)];
        assert_eq!(type_names(&files, &[]), [], "{fine}");
    }
    let twice_here = [file("src/a.rs", "#[cfg(unix)] struct Place; #[cfg(not(unix))] struct Place;")];
    assert_eq!(type_names(&twice_here, &[]), []);
    let rows = [file("src/a.rs", "struct Row;"), file("src/b.rs", "struct Row;")];
    assert_eq!(type_names(&rows, &[]), [], "a conventional private name");
}

#[test]
fn a_file_name_in_two_folders_is_found() {
    let files = ["src/a/x.rs", "src/b/x.rs", "src/a/mod.rs", "src/b/mod.rs", "src/a/tests.rs", "src/b/tests.rs"];
    let files =
        [&files.map(|path| file(path, ""))[..], &[file("src/b/tests/y.rs", ""), file("src/b/y.rs", "")]].concat();
    let found = file_names(&files, &[]);
    assert!(found.len() == 1 && found[0].file == "x.rs" && found[0].what.ends_with("src/a, src/b"), "{found:?}");
    assert_eq!(file_names(&files, &["x.rs"]), []);
}

#[test]
fn words_and_openings_that_need_a_second_reading_are_found_in_comments() {
    for bad in [
        "//! The house stands.",
        "/// A Deed.\nfn f() {}",
        "fn f() {} // buried",
        "/* one\n   visit */",
        "/// Who calls it.",
        "// What a form sends.",
        "/// One. Whatever is left.",
        "//! Whose name\n//! is long.",
    ] {
        assert_eq!(prose("src/a.rs", bad).len(), 1, "{bad}");
    }
    for good in [
        "/// A household; a floored number, to be heard.",
        "const HOUSE: &str = \"house\"; fn floor() {}",
        "// What is it for?",
        "/// The operator, whose name\n/// What stays the same.",
        "/// Whole. Whatsoever.",
    ] {
        assert_eq!(prose("src/a.rs", good), [], "{good}");
    }
}
