//! One field of a body: absent, `null` or set, with rules for deprecated names.

/// One field of a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Field<T> {
    #[default]
    Absent,
    Null,
    Set(T),
}

impl<T> Field<T> {
    /// The value. For new resources, absent and `null` mean the same.
    pub fn set(self) -> Option<T> {
        match self {
            Field::Set(value) => Some(value),
            Field::Absent | Field::Null => None,
        }
    }

    /// This field or, if absent, the one under its deprecated name.
    pub fn or(self, old: Field<T>) -> Field<T> {
        if matches!(self, Field::Absent) { old } else { self }
    }

    /// Like [`Field::or`]. If both are set, this field is used and `check` validates the deprecated one.
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

    /// Applies it to an optional value: absent keeps it, `null` clears it.
    pub fn put(self, place: &mut Option<T>) {
        match self {
            Field::Absent => {}
            Field::Null => *place = None,
            Field::Set(value) => *place = Some(value),
        }
    }

    /// Applies it to a required value: absent keeps it, `null` resets it to the default.
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
