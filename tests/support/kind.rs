//! The kinds of store, and tests that run on each of them.

use std::future::Future;

/// The kinds of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Sqlite => "SQLite",
            Kind::Postgres => "PostgreSQL",
        }
    }
}

/// The argument of a test: a [`Kind`], or a world on a fresh store of that kind.
pub trait OnStore: Sized {
    fn on(kind: Kind) -> impl Future<Output = Self>;
}

impl OnStore for Kind {
    async fn on(kind: Kind) -> Kind {
        kind
    }
}

pub async fn on<W: OnStore, F: Future<Output = ()>>(kind: Kind, test: impl FnOnce(W) -> F) {
    test(W::on(kind).await).await;
}

/// Makes two tests of each function that takes an [`OnStore`]: `sqlite::name` and `postgres::name`.
macro_rules! on_both {
    ($($(#[$attribute:meta])* $name:ident)*) => {
        mod sqlite {
            $($(#[$attribute])* #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { crate::support::kind::on(crate::support::Kind::Sqlite, super::$name).await })*
        }
        mod postgres {
            $($(#[$attribute])* #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { crate::support::kind::on(crate::support::Kind::Postgres, super::$name).await })*
        }
    };
}
pub(crate) use on_both;

/// The same, and each test runs in a process of its own (see [`own_process`](super::own_process)).
macro_rules! on_both_alone {
    ($($(#[$attribute:meta])* $name:ident)*) => {
        mod sqlite {
            $($(#[$attribute])* #[test]
            fn $name() {
                use crate::support::{Kind, kind, own_process};
                own_process::run(module_path!(), stringify!($name), || kind::on(Kind::Sqlite, super::$name));
            })*
        }
        mod postgres {
            $($(#[$attribute])* #[test]
            fn $name() {
                use crate::support::{Kind, kind, own_process};
                own_process::run(module_path!(), stringify!($name), || kind::on(Kind::Postgres, super::$name));
            })*
        }
    };
}
pub(crate) use on_both_alone;
