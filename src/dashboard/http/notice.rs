//! Notices after an action. The URL carries a word from a fixed list, never the text itself.

/// The outcome of an action. [`FlashNotice::text`] has the wording.
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

/// The wording of a notice.
pub struct Said {
    /// The value of `notice` in the URL.
    pub word: &'static str,
    /// Success or failure.
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
            Notice::Resent => {
                said("resent", true, "Resent.", "It is due now, with a new retry schedule. Reload to see the result.")
            }
            Notice::NotResent => said(
                "not-resent",
                false,
                "Not resent.",
                "The endpoint, application, message or content no longer exists.",
            ),
            Notice::ResendCanceled => said(
                "resend-canceled",
                true,
                "Canceled.",
                "No further deliveries are queued. Those already queued will be sent.",
            ),
            Notice::ResendOver => said("resend-over", false, "Not canceled.", "It had already ended."),
            Notice::Canceled => said(
                "canceled",
                true,
                "Canceled.",
                "It will not be sent; an attempt in flight may still arrive. You can resend it.",
            ),
            Notice::NotCanceled => {
                said("not-canceled", false, "Not canceled.", "It was no longer waiting. The result is below.")
            }
            Notice::Created => said("created", true, "Created.", "It is in use now."),
            Notice::Changed => said("changed", true, "Saved.", "The change applies from the next attempt."),
            Notice::Deleted => said("deleted", true, "Deleted.", "Its pending deliveries will not be sent."),
            Notice::Enabled => said("enabled", true, "Enabled.", "Pending deliveries are being sent."),
            Notice::Disabled => {
                said("disabled", true, "Disabled.", "Pending deliveries wait until it is enabled again.")
            }
            Notice::Rotated => {
                said("rotated", true, "Secret rotated.", "The old secret stays valid for the period you chose.")
            }
            Notice::Sent => said("sent", true, "Sent.", "It is queued. Reload to see the result."),
            Notice::Archived => {
                said("archived", true, "Archived.", "It is no longer offered; events of this type are still delivered.")
            }
            Notice::KeyRevoked => {
                said("key-revoked", true, "Revoked.", "Requests with this key are rejected within 3 seconds.")
            }
            Notice::OperatorCreated => {
                said("operator-created", true, "Account created.", "They can sign in with this name and password.")
            }
            Notice::OperatorRemoved => said("operator-removed", true, "Removed.", "Their sessions have ended."),
            Notice::PasswordChanged => {
                said("password-changed", true, "Password changed.", "Your other sessions have ended.")
            }
            Notice::VisitEnded => said("session-ended", true, "Session ended.", "Its pages no longer open."),
            Notice::VisitOver => said("session-over", false, "Not ended.", "The session had already ended."),
            Notice::RowRetried => said(
                "row-retried",
                true,
                "Retried.",
                "The relay is processing the row. If it is still stuck, it stays listed.",
            ),
            Notice::RowDiscarded => said("row-discarded", true, "Discarded.", "The row is deleted."),
            Notice::RowGone => said("row-gone", false, "Nothing changed.", "The row is no longer stuck."),
            Notice::RowAmbiguous => said(
                "row-ambiguous",
                false,
                "Nothing was done.",
                "Several rows share this number. Edit or delete the row in the table itself.",
            ),
            Notice::NoOrganization => said(
                "no-organization",
                false,
                "Not switched.",
                "This organization does not exist, or your account has no access to it.",
            ),
        }
    }

    /// The value of `notice` in the URL.
    pub fn word(self) -> &'static str {
        self.said().word
    }

    pub fn from_word(word: &str) -> Option<Notice> {
        Notice::ALL.iter().copied().find(|notice| notice.word() == word)
    }
}
