//! The partition layout, read from PostgreSQL's catalogs.

use sqlx::PgExecutor;
use uuid::Uuid;

use crate::domain::{MessageId, Time};
use crate::store::StoreError;
use crate::store::db::postgres;

/// A partitioned table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) enum PartitionedTable {
    Message,
    Attempt,
}

impl PartitionedTable {
    pub const ALL: [PartitionedTable; 2] = [PartitionedTable::Message, PartitionedTable::Attempt];

    pub const fn name(self) -> &'static str {
        match self {
            PartitionedTable::Message => "message",
            PartitionedTable::Attempt => "attempt",
        }
    }

    /// The partition key: the column with the message's id.
    pub const fn id(self) -> &'static str {
        match self {
            PartitionedTable::Message => "id",
            PartitionedTable::Attempt => "message_id",
        }
    }
}

/// A partition with the rows of messages in `from..to`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct Partition {
    pub table: PartitionedTable,
    /// Nil stands for MINVALUE.
    pub from: MessageId,
    pub to: MessageId,
    pub name: String,
    /// Being detached: invisible to new statements, but its range is not free yet.
    pub detaching: bool,
}

impl Partition {
    pub fn holds(&self, id: MessageId) -> bool {
        (self.from..self.to).contains(&id)
    }

    /// Whether the lower bound is MINVALUE.
    pub fn is_first(&self) -> bool {
        self.from.0.is_nil()
    }
}

/// All partitions, sorted by table and range.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Layout {
    all: Vec<Partition>,
}

impl Layout {
    pub(super) async fn read(db: impl PgExecutor<'_>) -> Result<Layout, StoreError> {
        const SQL: &str =
            "SELECT p.relname = 'message', c.relname, pg_get_expr(c.relpartbound, c.oid), i.inhdetachpending
             FROM pg_class p JOIN pg_namespace n ON n.oid = p.relnamespace JOIN pg_inherits i ON i.inhparent = p.oid
                 JOIN pg_class c ON c.oid = i.inhrelid
             WHERE n.nspname = $1 AND p.relkind = 'p' AND p.relname IN ('message', 'attempt')";
        let rows: Vec<(bool, String, Option<String>, bool)> =
            sqlx::query_as(SQL).bind(postgres::SCHEMA).fetch_all(db).await?;
        let partition = |(message, name, bounds, leaving): (bool, String, Option<String>, bool)| {
            let table = if message { PartitionedTable::Message } else { PartitionedTable::Attempt };
            // Without bounds it was just detached or is not ours.
            let (from, to) = bounds.as_deref().and_then(parse)?;
            Some(Partition { table, from, to, name, detaching: leaving })
        };
        Ok(Layout::of(rows.into_iter().filter_map(partition).collect()))
    }

    pub fn of(mut all: Vec<Partition>) -> Layout {
        all.sort();
        Layout { all }
    }

    pub fn add(&mut self, one: Partition) {
        self.all.push(one);
        self.all.sort();
    }

    pub fn count(&self, table: PartitionedTable) -> usize {
        self.of_table(table).count()
    }

    /// The partitions of `table`, oldest first.
    pub fn of_table(&self, table: PartitionedTable) -> impl DoubleEndedIterator<Item = &Partition> {
        self.all.iter().filter(move |one| one.table == table)
    }

    pub fn holder(&self, table: PartitionedTable, id: MessageId) -> Option<&Partition> {
        self.of_table(table).find(|one| one.holds(id))
    }

    /// Whether rows of all these messages can be inserted.
    pub fn covers_all(&self, table: PartitionedTable, ids: &[Uuid]) -> bool {
        let mut last: Option<&Partition> = None;
        ids.iter().all(|id| {
            let id = MessageId(*id);
            if !last.is_some_and(|one| one.holds(id)) {
                last = self.holder(table, id).filter(|one| !one.detaching);
            }
            last.is_some()
        })
    }

    /// Whether the partition of this message is being detached.
    pub fn is_detaching(&self, table: PartitionedTable, id: MessageId) -> bool {
        self.holder(table, id).is_some_and(|one| one.detaching)
    }

    /// The upper bound of the newest partition entirely before `cutoff`.
    pub fn expired_before(&self, cutoff: Time) -> Option<MessageId> {
        let floor = MessageId::floor(cutoff);
        self.of_table(PartitionedTable::Message).map(|one| one.to).filter(|to| *to <= floor).max()
    }

    /// The gap around a message without a partition: the upper bound of the partition before, and the lower bound of
    /// the one after.
    pub fn gap(&self, table: PartitionedTable, id: MessageId) -> (Option<MessageId>, Option<MessageId>) {
        let before = self.of_table(table).map(|one| one.to).filter(|to| *to <= id).max();
        let after = self.of_table(table).map(|one| one.from).filter(|from| *from > id).min();
        (before, after)
    }
}

/// Parses `FOR VALUES FROM (…) TO (…)`.
fn parse(bounds: &str) -> Option<(MessageId, MessageId)> {
    let (from, to) = bounds.strip_prefix("FOR VALUES FROM (")?.strip_suffix(')')?.split_once(") TO (")?;
    let id = |text: &str| Uuid::try_parse(text.trim_matches('\'')).ok().map(MessageId);
    let from = if from == "MINVALUE" { MessageId(Uuid::nil()) } else { id(from)? };
    Some((from, id(to)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: u64) -> MessageId {
        MessageId::floor(Time::from_micros(minutes as i64 * 60_000_000))
    }

    fn messages(bounds: &[(u64, u64, bool)]) -> Layout {
        let one = |(from, to, leaving): &(u64, u64, bool)| Partition {
            table: PartitionedTable::Message,
            from: if *from == 0 { MessageId(Uuid::nil()) } else { at(*from) },
            to: at(*to),
            name: format!("message_{from}"),
            detaching: *leaving,
        };
        Layout::of(bounds.iter().map(one).collect())
    }

    #[test]
    fn bounds_are_read_as_postgresql_writes_them() {
        let (low, high) = ("01a22952-7700-7000-8000-000000000000", "01a22952-7800-7000-8000-000000000000");
        let id = |text: &str| MessageId(text.parse().unwrap());
        let parsed = parse(&format!("FOR VALUES FROM ('{low}') TO ('{high}')"));
        assert_eq!(parsed, Some((id(low), id(high))));
        assert_eq!(
            parse(&format!("FOR VALUES FROM (MINVALUE) TO ('{high}')")),
            Some((MessageId(Uuid::nil()), id(high)))
        );
        for other in ["DEFAULT", "FOR VALUES FROM (MINVALUE) TO (MAXVALUE)", ""] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_detaching_partition_covers_nothing_and_leaves_no_gap() {
        let layout = messages(&[(0, 10, false), (10, 20, true), (30, 40, false)]);
        let covers = |minutes: &[u64]| {
            layout
                .covers_all(PartitionedTable::Message, &minutes.iter().map(|minute| at(*minute).0).collect::<Vec<_>>())
        };
        assert!(covers(&[]) && covers(&[1, 9, 35]));
        assert!(!covers(&[1, 15]) && !covers(&[10]) && !covers(&[20]) && !covers(&[35, 40]));
        assert!(!layout.covers_all(PartitionedTable::Attempt, &[at(1).0]), "the other table has none");
        assert!(
            layout.is_detaching(PartitionedTable::Message, at(15))
                && !layout.is_detaching(PartitionedTable::Message, at(5))
        );
        assert_eq!(layout.gap(PartitionedTable::Message, at(25)), (Some(at(20)), Some(at(30))));
        assert_eq!(layout.gap(PartitionedTable::Message, at(45)), (Some(at(40)), None));
    }

    #[test]
    fn only_what_is_wholly_before_the_cutoff_is_past() {
        let layout = messages(&[(0, 10, false), (10, 20, false), (20, 30, false)]);
        let past = |minutes: u64| layout.expired_before(at(minutes).time());
        assert_eq!([past(9), past(10), past(29), past(99)], [None, Some(at(10)), Some(at(20)), Some(at(30))]);
    }
}
