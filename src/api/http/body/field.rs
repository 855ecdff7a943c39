//! One field of a body: absent, `null` or set, with rules for deprecated names.

/// One field of a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FieldValue<T> {
    #[default]
    Absent,
    Null,
    Set(T),
}

impl<T> FieldValue<T> {
    /// The value. For new resources, absent and `null` mean the same.
    pub fn set(self) -> Option<T> {
        match self {
            FieldValue::Set(value) => Some(value),
            FieldValue::Absent | FieldValue::Null => None,
        }
    }

    /// This field or, if absent, the one under its deprecated name.
    pub fn or(self, old: FieldValue<T>) -> FieldValue<T> {
        if matches!(self, FieldValue::Absent) { old } else { self }
    }

    /// Like [`FieldValue::or`]. If both are set, this field is used and `check` validates the deprecated one.
    pub fn or_checked(self, old: FieldValue<T>, check: impl FnOnce(T)) -> FieldValue<T> {
        match (&self, old) {
            (FieldValue::Absent, old) => old,
            (_, FieldValue::Set(old)) => {
                check(old);
                self
            }
            _ => self,
        }
    }

    /// Updates an optional value. An absent field keeps the value, `null` clears it.
    pub fn apply(self, place: &mut Option<T>) {
        match self {
            FieldValue::Absent => {}
            FieldValue::Null => *place = None,
            FieldValue::Set(value) => *place = Some(value),
        }
    }

    /// Updates a required value. An absent field keeps the value, `null` resets it to the default.
    pub fn apply_or_default(self, place: &mut T)
    where
        T: Default,
    {
        match self {
            FieldValue::Absent => {}
            FieldValue::Null => *place = T::default(),
            FieldValue::Set(value) => *place = value,
        }
    }
}
