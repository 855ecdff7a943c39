//! Reading a row into a struct.

/// Implements [`sqlx::FromRow`] for rows of both databases. Each field is read from the column of its name; the fields
/// after `with` are structs that are read from the same row. A missing field does not compile.
///
/// sqlx's derive does the same, but compiles all database drivers a second time, because its macros contain them.
macro_rules! from_row {
    ($name:ident { $($column:ident),* } $(with { $($part:ident),* })?) => {
        $crate::store::db::from_row::from_row!(@ sqlx::sqlite::SqliteRow, $name { $($column),* } { $($($part),*)? });
        $crate::store::db::from_row::from_row!(@ sqlx::postgres::PgRow, $name { $($column),* } { $($($part),*)? });
    };
    (@ $row:ty, $name:ident { $($column:ident),* } { $($part:ident),* }) => {
        impl sqlx::FromRow<'_, $row> for $name {
            fn from_row(row: &$row) -> Result<$name, sqlx::Error> {
                Ok($name {
                    $($column: sqlx::Row::try_get(row, stringify!($column))?,)*
                    $($part: sqlx::FromRow::from_row(row)?,)*
                })
            }
        }
    };
}

pub(in crate::store) use from_row;
