//! Notices after an action. The URL contains a word from a fixed list, never the text itself.

/// The wording of a notice.
pub struct FlashText {
    /// The value of `notice` in the URL.
    pub word: &'static str,
    /// Success or failure.
    pub good: bool,
    pub first: &'static str,
    pub rest: &'static str,
}

/// Declares [`FlashNotice`] with the fields of each notice's [`FlashText`]: `good`, `word`, `first`, `rest`.
macro_rules! notices {
    ($($name:ident: $good:literal, $word:literal, $first:literal, $rest:literal;)*) => {
        /// The outcome of an action. [`FlashNotice::text`] has the wording.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum FlashNotice {
            $($name,)*
        }

        impl FlashNotice {
            const ALL: &[FlashNotice] = &[$(FlashNotice::$name),*];

            pub fn text(self) -> FlashText {
                match self {
                    $(FlashNotice::$name => FlashText { word: $word, good: $good, first: $first, rest: $rest },)*
                }
            }
        }
    };
}

notices! {
    Resent: true, "resent", "Resent.", "It is due now, with a new retry schedule. Reload to see the result.";
    NotResent: false, "not-resent", "Not resent.", "The endpoint, application, message or content no longer exists.";
    ResendCanceled: true, "resend-canceled", "Canceled.", "No further deliveries are queued. Those already queued will be sent.";
    ResendOver: false, "resend-over", "Not canceled.", "It had already ended.";
    Canceled: true, "canceled", "Canceled.", "It will not be sent; an attempt in flight may still arrive. You can resend it.";
    NotCanceled: false, "not-canceled", "Not canceled.", "It was already sent. The result is below.";
    SelectionCanceled: true, "selection-canceled", "Canceled.", "These are the selected deliveries. Attempts in flight may still arrive. You can resend them.";
    SelectionNotCanceled: false, "selection-not-canceled", "Nothing canceled.", "None of these was pending any more.";
    Created: true, "created", "Created.", "It is in use now.";
    Changed: true, "changed", "Saved.", "The change applies from the next attempt.";
    Deleted: true, "deleted", "Deleted.", "Its pending deliveries will not be sent.";
    Enabled: true, "enabled", "Enabled.", "Pending deliveries are being sent.";
    Disabled: true, "disabled", "Disabled.", "Pending deliveries wait until it is enabled again.";
    Rotated: true, "rotated", "Secret rotated.", "The old secret stays valid for the period you chose.";
    Imported: true, "imported", "Imported.", "The event types of the document are in the catalog.";
    Sent: true, "sent", "Sent.", "It is queued. Reload to see the result.";
    TestNotSent: false, "test-not-sent", "Not sent.", "The endpoint is disabled or deleted. Enable it first.";
    Archived: true, "archived", "Archived.", "Customers can no longer subscribe to it. Its events are still delivered.";
    KeyRevoked: true, "key-revoked", "Revoked.", "Requests with this key are rejected within 3 seconds.";
    KeyShownBefore: false, "key-shown-before", "Already created.", "It was shown once. If you did not copy it, revoke it and create another.";
    TokenShownBefore: false, "token-shown-before", "Already created.", "Its token was shown once. If you did not copy it, create another token.";
    OperatorCreated: true, "operator-created", "Account created.", "They can sign in with this name and password.";
    AccessChanged: true, "access-changed", "Saved.", "It applies from their next page on.";
    OperatorRemoved: true, "operator-removed", "Removed.", "Their sessions have ended.";
    PasswordChanged: true, "password-changed", "Password changed.", "Your other sessions have ended.";
    PasswordReset: true, "password-reset", "Password changed.", "Sign in with the new one.";
    SecondFactorThere: false, "second-factor-there", "Already set up.", "Turn it off first to use another device.";
    SecondFactorRemoved: true, "second-factor-removed", "Second factor removed.", "The password alone is enough now.";
    OtherSessionsEnded: true, "other-sessions-ended", "Other sessions ended.", "Only this session is still open.";
    SessionEnded: true, "session-ended", "Session ended.", "Its user is signed out.";
    SessionAlreadyEnded: false, "session-over", "Not ended.", "The session had already ended.";
    NoOrganization: false, "no-organization", "Not switched.", "This organization does not exist, or your account has no access to it.";
    ViewSaved: true, "view-saved", "Saved.", "The view is shown above the list, to you only.";
    ViewDeleted: true, "view-deleted", "Deleted.", "Your account no longer has the view.";
    ViewNotSaved: false, "view-not-saved", "Not saved.", "Set a filter and enter a name of up to 60 characters. An account keeps 50 views; delete one first.";
    RowRetried: true, "row-retried", "Retried.", "The relay is processing the row. If it is still stuck, it stays listed.";
    RowDiscarded: true, "row-discarded", "Discarded.", "The row is deleted.";
    RowGone: false, "row-gone", "Nothing changed.", "The row is no longer stuck.";
    RowAmbiguous: false, "row-ambiguous", "Nothing was done.", "Several rows share this number. Edit or delete the row in the table itself.";
}

impl FlashNotice {
    /// The value of `notice` in the URL.
    pub fn word(self) -> &'static str {
        self.text().word
    }

    pub fn from_word(word: &str) -> Option<FlashNotice> {
        FlashNotice::ALL.iter().copied().find(|notice| notice.word() == word)
    }
}
