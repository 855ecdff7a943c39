//! One field of a body: absent, `null` or set, and what an old name of it means.

/// One field of a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Field<T> {
    #[default]
    Absent,
    Null,
    Set(T),
}

impl<T> Field<T> {
    /// Absent and `null` are the same where something is new.
    pub fn set(self) -> Option<T> {
        match self {
            Field::Set(value) => Some(value),
            Field::Absent | Field::Null => None,
        }
    }

    /// This field or, if it is absent, the one under its old name.
    pub fn or(self, old: Field<T>) -> Field<T> {
        if matches!(self, Field::Absent) { old } else { self }
    }

    /// Like [`Field::or`]. If both are given, this one counts and `check` gets the old one: its limits hold although it is not used.
    pub fn or_checked(self, old: Field<T>, check: impl FnOnce(T)) -> Field<T> {
        match (&self, old) {
            (Field::Absent, old) => old,
            (_, Field::Set(old)) => {
                check(old);
                self
            }
            _ => self,
        }
    }

    /// Puts it into `place`: absent stays, `null` clears.
    pub fn put(self, place: &mut Option<T>) {
        match self {
            Field::Absent => {}
            Field::Null => *place = None,
            Field::Set(value) => *place = Some(value),
        }
    }

    /// Puts it into a place that is never empty: absent stays, `null` makes it what it is by default.
    pub fn put_or_default(self, place: &mut T)
    where
        T: Default,
    {
        match self {
            Field::Absent => {}
            Field::Null => *place = T::default(),
            Field::Set(value) => *place = value,
        }
    }
}
