//! What is said on a page after something was done: a word in the URL, never a text from there.

/// What was just done. The table is [`Notice::said`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    Resent,
    NotResent,
    ResendCanceled,
    ResendOver,
    Canceled,
    NotCanceled,
    Created,
    Changed,
    Deleted,
    Enabled,
    Disabled,
    Rotated,
    Sent,
    Archived,
    KeyRevoked,
    OperatorCreated,
    OperatorRemoved,
    PasswordChanged,
    VisitEnded,
    VisitOver,
    NoOrganization,
    RowRetried,
    RowDiscarded,
    RowGone,
    RowAmbiguous,
}

/// How a notice is worded.
pub struct Said {
    /// The word in the URL.
    pub word: &'static str,
    /// Whether it went well.
    pub good: bool,
    pub first: &'static str,
    pub rest: &'static str,
}

impl Notice {
    const ALL: &[Notice] = &[
        Notice::Resent,
        Notice::NotResent,
        Notice::ResendCanceled,
        Notice::ResendOver,
        Notice::Canceled,
        Notice::NotCanceled,
        Notice::Created,
        Notice::Changed,
        Notice::Deleted,
        Notice::Enabled,
        Notice::Disabled,
        Notice::Rotated,
        Notice::Sent,
        Notice::Archived,
        Notice::KeyRevoked,
        Notice::OperatorCreated,
        Notice::OperatorRemoved,
        Notice::PasswordChanged,
        Notice::VisitEnded,
        Notice::VisitOver,
        Notice::NoOrganization,
        Notice::RowRetried,
        Notice::RowDiscarded,
        Notice::RowGone,
        Notice::RowAmbiguous,
    ];

    pub fn said(self) -> Said {
        let said = |word, good, first, rest| Said { word, good, first, rest };
        match self {
            Notice::Resent => said(
                "resent",
                true,
                "On its way again.",
                "It is due at once, with a fresh schedule. Reload to see what came of it.",
            ),
            Notice::NotResent => said(
                "not-resent",
                false,
                "Not resent.",
                "The endpoint, its application, the message or its content is gone.",
            ),
            Notice::ResendCanceled => said(
                "resend-canceled",
                true,
                "Canceled.",
                "No further deliveries are queued. Those already queued will be sent.",
            ),
            Notice::ResendOver => said("resend-over", false, "Not canceled.", "It had ended already."),
            Notice::Canceled => said(
                "canceled",
                true,
                "Canceled.",
                "It is not sent any more; an attempt that was on its way may still arrive. It can be resent.",
            ),
            Notice::NotCanceled => {
                said("not-canceled", false, "Not canceled.", "It was not waiting any more: see below what it came to.")
            }
            Notice::Created => said("created", true, "Created.", "It is in use from now on."),
            Notice::Changed => said("changed", true, "Saved.", "The change holds from the next attempt on."),
            Notice::Deleted => said("deleted", true, "Deleted.", "What was pending for it is not sent any more."),
            Notice::Enabled => said("enabled", true, "Enabled.", "Deliveries that waited are being sent."),
            Notice::Disabled => said("disabled", true, "Disabled.", "What is pending waits until it is enabled again."),
            Notice::Rotated => said(
                "rotated",
                true,
                "The secret is another one now.",
                "The one before signs along for as long as you said.",
            ),
            Notice::Sent => said("sent", true, "Sent.", "It is on its way. Reload to see what came of it."),
            Notice::Archived => said(
                "archived",
                true,
                "Archived.",
                "It is no longer offered; what is sent under it is still delivered.",
            ),
            Notice::KeyRevoked => said(
                "key-revoked",
                true,
                "Revoked.",
                "Whoever shows the key is refused, within 3 seconds at the latest.",
            ),
            Notice::OperatorCreated => {
                said("operator-created", true, "The account is there.", "They can sign in with that name and password.")
            }
            Notice::OperatorRemoved => said("operator-removed", true, "Removed.", "Their sessions are over."),
            Notice::PasswordChanged => {
                said("password-changed", true, "Your password is changed.", "Your other sessions are over.")
            }
            Notice::VisitEnded => said("session-ended", true, "Session ended.", "Its pages no longer open."),
            Notice::VisitOver => said("session-over", false, "Not ended.", "The session had ended already."),
            Notice::RowRetried => said(
                "row-retried",
                true,
                "Retried.",
                "The relay looks at the row now. If it is still stuck, it stays listed.",
            ),
            Notice::RowDiscarded => said("row-discarded", true, "Discarded.", "The row is deleted."),
            Notice::RowGone => said("row-gone", false, "Nothing was done.", "The row is not stuck any more."),
            Notice::RowAmbiguous => said(
                "row-ambiguous",
                false,
                "Nothing was done.",
                "Several rows share this number: correct or delete it in the table itself.",
            ),
            Notice::NoOrganization => said(
                "no-organization",
                false,
                "Not switched.",
                "There is no such organization, or your account does not include it.",
            ),
        }
    }

    /// The word in the URL.
    pub fn word(self) -> &'static str {
        self.said().word
    }

    pub fn from_word(word: &str) -> Option<Notice> {
        Notice::ALL.iter().copied().find(|notice| notice.word() == word)
    }
}
