//! Notices after an action. The URL contains a word from a fixed list, never the text itself.

/// The outcome of an action. [`FlashNotice::text`] has the wording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlashNotice {
    Resent,
    NotResent,
    ResendCanceled,
    ResendOver,
    Canceled,
    NotCanceled,
    SelectionCanceled,
    SelectionNotCanceled,
    Created,
    Changed,
    Deleted,
    Enabled,
    Disabled,
    Rotated,
    Imported,
    Sent,
    TestNotSent,
    Archived,
    KeyRevoked,
    KeyShownBefore,
    TokenShownBefore,
    OperatorCreated,
    AccessChanged,
    OperatorRemoved,
    PasswordChanged,
    PasswordReset,
    SecondFactorThere,
    SecondFactorRemoved,
    OtherSessionsEnded,
    SessionEnded,
    SessionAlreadyEnded,
    NoOrganization,
    ViewSaved,
    ViewDeleted,
    ViewNotSaved,
    RowRetried,
    RowDiscarded,
    RowGone,
    RowAmbiguous,
}

/// The wording of a notice.
pub struct FlashText {
    /// The value of `notice` in the URL.
    pub word: &'static str,
    /// Success or failure.
    pub good: bool,
    pub first: &'static str,
    pub rest: &'static str,
}

impl FlashNotice {
    const ALL: &[FlashNotice] = &[
        FlashNotice::Resent,
        FlashNotice::NotResent,
        FlashNotice::ResendCanceled,
        FlashNotice::ResendOver,
        FlashNotice::Canceled,
        FlashNotice::NotCanceled,
        FlashNotice::SelectionCanceled,
        FlashNotice::SelectionNotCanceled,
        FlashNotice::Created,
        FlashNotice::Changed,
        FlashNotice::Deleted,
        FlashNotice::Enabled,
        FlashNotice::Disabled,
        FlashNotice::Rotated,
        FlashNotice::Imported,
        FlashNotice::Sent,
        FlashNotice::TestNotSent,
        FlashNotice::Archived,
        FlashNotice::KeyRevoked,
        FlashNotice::KeyShownBefore,
        FlashNotice::TokenShownBefore,
        FlashNotice::OperatorCreated,
        FlashNotice::AccessChanged,
        FlashNotice::OperatorRemoved,
        FlashNotice::PasswordChanged,
        FlashNotice::PasswordReset,
        FlashNotice::SecondFactorThere,
        FlashNotice::SecondFactorRemoved,
        FlashNotice::OtherSessionsEnded,
        FlashNotice::SessionEnded,
        FlashNotice::SessionAlreadyEnded,
        FlashNotice::NoOrganization,
        FlashNotice::ViewSaved,
        FlashNotice::ViewDeleted,
        FlashNotice::ViewNotSaved,
        FlashNotice::RowRetried,
        FlashNotice::RowDiscarded,
        FlashNotice::RowGone,
        FlashNotice::RowAmbiguous,
    ];

    pub fn text(self) -> FlashText {
        let text = |word, good, first, rest| FlashText { word, good, first, rest };
        match self {
            FlashNotice::Resent => {
                text("resent", true, "Resent.", "It is due now, with a new retry schedule. Reload to see the result.")
            }
            FlashNotice::NotResent => text(
                "not-resent",
                false,
                "Not resent.",
                "The endpoint, application, message or content no longer exists.",
            ),
            FlashNotice::ResendCanceled => text(
                "resend-canceled",
                true,
                "Canceled.",
                "No further deliveries are queued. Those already queued will be sent.",
            ),
            FlashNotice::ResendOver => text("resend-over", false, "Not canceled.", "It had already ended."),
            FlashNotice::Canceled => text(
                "canceled",
                true,
                "Canceled.",
                "It will not be sent; an attempt in flight may still arrive. You can resend it.",
            ),
            FlashNotice::NotCanceled => {
                text("not-canceled", false, "Not canceled.", "It was already sent. The result is below.")
            }
            FlashNotice::SelectionCanceled => text(
                "selection-canceled",
                true,
                "Canceled.",
                "These are the selected deliveries. Attempts in flight may still arrive. You can resend them.",
            ),
            FlashNotice::SelectionNotCanceled => {
                text("selection-not-canceled", false, "Nothing canceled.", "None of these was pending any more.")
            }
            FlashNotice::Created => text("created", true, "Created.", "It is in use now."),
            FlashNotice::Changed => text("changed", true, "Saved.", "The change applies from the next attempt."),
            FlashNotice::Deleted => text("deleted", true, "Deleted.", "Its pending deliveries will not be sent."),
            FlashNotice::Enabled => text("enabled", true, "Enabled.", "Pending deliveries are being sent."),
            FlashNotice::Disabled => {
                text("disabled", true, "Disabled.", "Pending deliveries wait until it is enabled again.")
            }
            FlashNotice::Rotated => {
                text("rotated", true, "Secret rotated.", "The old secret stays valid for the period you chose.")
            }
            FlashNotice::Sent => text("sent", true, "Sent.", "It is queued. Reload to see the result."),
            FlashNotice::Imported => {
                text("imported", true, "Imported.", "The catalog has the event types of the document.")
            }
            FlashNotice::TestNotSent => {
                text("test-not-sent", false, "Not sent.", "The endpoint is disabled or deleted. Enable it first.")
            }
            FlashNotice::Archived => text(
                "archived",
                true,
                "Archived.",
                "Customers can no longer subscribe to it. Its events are still delivered.",
            ),
            FlashNotice::KeyRevoked => {
                text("key-revoked", true, "Revoked.", "Requests with this key are rejected within 3 seconds.")
            }
            FlashNotice::KeyShownBefore => text(
                "key-shown-before",
                false,
                "Already created.",
                "It was shown once. If you did not copy it, revoke it and create another.",
            ),
            FlashNotice::TokenShownBefore => text(
                "token-shown-before",
                false,
                "Already created.",
                "Its token was shown once. If you did not copy it, create another token.",
            ),
            FlashNotice::OperatorCreated => {
                text("operator-created", true, "Account created.", "They can sign in with this name and password.")
            }
            FlashNotice::AccessChanged => text("access-changed", true, "Saved.", "It applies from their next page on."),
            FlashNotice::OperatorRemoved => text("operator-removed", true, "Removed.", "Their sessions have ended."),
            FlashNotice::PasswordChanged => {
                text("password-changed", true, "Password changed.", "Your other sessions have ended.")
            }
            FlashNotice::PasswordReset => {
                text("password-reset", true, "Password changed.", "Sign in with the new one.")
            }
            FlashNotice::SecondFactorThere => {
                text("second-factor-there", false, "Already set up.", "Turn it off first to use another device.")
            }
            FlashNotice::SecondFactorRemoved => {
                text("second-factor-removed", true, "Second factor removed.", "The password alone signs in now.")
            }
            FlashNotice::OtherSessionsEnded => {
                text("other-sessions-ended", true, "Other sessions ended.", "Only this one is still signed in.")
            }
            FlashNotice::SessionEnded => text("session-ended", true, "Session ended.", "Its pages no longer open."),
            FlashNotice::SessionAlreadyEnded => {
                text("session-over", false, "Not ended.", "The session had already ended.")
            }
            FlashNotice::ViewSaved => {
                text("view-saved", true, "Saved.", "The view is above the list. Only you see it.")
            }
            FlashNotice::ViewDeleted => text("view-deleted", true, "Deleted.", "The view is no longer above the list."),
            FlashNotice::ViewNotSaved => text(
                "view-not-saved",
                false,
                "Not saved.",
                "Set a filter and enter a name of up to 60 characters. An account keeps 50 views; delete one first.",
            ),
            FlashNotice::RowRetried => text(
                "row-retried",
                true,
                "Retried.",
                "The relay is processing the row. If it is still stuck, it stays listed.",
            ),
            FlashNotice::RowDiscarded => text("row-discarded", true, "Discarded.", "The row is deleted."),
            FlashNotice::RowGone => text("row-gone", false, "Nothing changed.", "The row is no longer stuck."),
            FlashNotice::RowAmbiguous => text(
                "row-ambiguous",
                false,
                "Nothing was done.",
                "Several rows share this number. Edit or delete the row in the table itself.",
            ),
            FlashNotice::NoOrganization => text(
                "no-organization",
                false,
                "Not switched.",
                "This organization does not exist, or your account has no access to it.",
            ),
        }
    }

    /// The value of `notice` in the URL.
    pub fn word(self) -> &'static str {
        self.text().word
    }

    pub fn from_word(word: &str) -> Option<FlashNotice> {
        FlashNotice::ALL.iter().copied().find(|notice| notice.word() == word)
    }
}
