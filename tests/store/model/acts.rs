//! The acts: what callers, engines and the sweep do to a store, in words that mean something whatever came before.
//!
//! * [`Act`] – one of them. It names things by a [`Pick`]: the so-many-eth of those that there are by then, so that any part of a sequence
//!   is a sequence again, and proptest can shrink it.
//! * [`Who`] – on whose behalf it is done: a stranger must find that nothing of it exists.
//!
//! [`super::sequences`] makes sequences of them.

/// Which one of those that there are.
pub type Pick = u8;

/// Whose token it is, seen from the application that is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Its organization's.
    Owner,
    /// Its own.
    Customer,
    /// Another organization's.
    Stranger,
    /// Another application's of the same organization.
    Neighbour,
}

/// What an endpoint is to be.
#[derive(Clone, Debug)]
pub struct Ends {
    pub uid: Option<u8>,
    pub disabled: bool,
    /// Event types and channels that it wants, a bit for each.
    pub types: Option<u8>,
    pub channels: Option<u8>,
    pub rate: Option<u16>,
    pub url: u8,
}

/// A message that wants in.
#[derive(Clone, Debug)]
pub struct Item {
    pub who: Who,
    pub app: Pick,
    /// The application is named by its uid.
    pub by_uid: bool,
    pub event_type: u8,
    pub event_id: Option<u8>,
    pub channels: u8,
    pub tag: bool,
    /// Seconds from now, which may be in the past.
    pub deliver_in: Option<i32>,
    /// Seconds.
    pub keep: Option<u32>,
    /// For one endpoint alone.
    pub only: Option<Pick>,
    /// The payload is no JSON object.
    pub broken: bool,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    Delivered,
    /// A 503, and the schedule goes on.
    Failed,
    /// No answer, and the schedule goes on.
    Silent,
    /// A 500, and the schedule is used up.
    Exhausted,
    /// A 410.
    Gone,
}

/// A record of an attempt that is on its way.
#[derive(Clone, Debug)]
pub struct End {
    pub flight: Pick,
    pub came: Came,
    /// Of [`super::rules::DURATIONS`].
    pub took: u8,
    /// Under an epoch that is over.
    pub late: bool,
    /// It will be recorded once more (the commit failed, or seemed to).
    pub again: bool,
}

/// How a list is looked through.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Of [`super::views::VIEWS`].
    pub view: Pick,
    pub who: Who,
    pub app: Pick,
    pub thing: Pick,
    /// 1–5 to a page.
    pub limit: u8,
    pub newest: bool,
    /// Which filters are set, a bit for each.
    pub filter: u8,
}

#[derive(Clone, Debug)]
pub enum Act {
    /// Seconds.
    Wait(u32),
    CreateApp {
        other: bool,
        uid: Option<u8>,
        rate: Option<u16>,
        once: Option<u8>,
    },
    UpdateApp {
        who: Who,
        app: Pick,
        uid: Option<u8>,
        rate: Option<u16>,
    },
    DeleteApp {
        who: Who,
        app: Pick,
    },
    CreateEndpoint {
        who: Who,
        app: Pick,
        ends: Ends,
        once: Option<u8>,
    },
    UpdateEndpoint {
        who: Who,
        endpoint: Pick,
        ends: Ends,
        stale: bool,
    },
    Toggle {
        endpoint: Pick,
    },
    DeleteEndpoint {
        who: Who,
        endpoint: Pick,
    },
    RotateSecret {
        who: Who,
        endpoint: Pick,
        grace: u32,
    },
    ChangeHeaders {
        who: Who,
        endpoint: Pick,
        value: u8,
    },
    CreateEventType {
        other: bool,
        name: u8,
    },
    PutEventType {
        other: bool,
        name: u8,
        flag: bool,
    },
    DeleteEventType {
        other: bool,
        name: u8,
        expunge: bool,
    },
    Accept {
        items: Vec<Item>,
        once: Option<u8>,
    },
    SendExample {
        who: Who,
        endpoint: Pick,
    },
    Outbox {
        items: Vec<Item>,
    },
    Relay {
        limit: u8,
    },
    RetryOutbox,
    /// Deliveries are read and sent; what came of it is recorded later.
    Send {
        deliveries: Vec<Pick>,
        slot: u8,
    },
    Record {
        ends: Vec<End>,
    },
    Resend {
        who: Who,
        message: Pick,
        endpoint: Pick,
        once: Option<u8>,
    },
    Cancel {
        who: Who,
        delivery: Pick,
    },
    DeleteContent {
        who: Who,
        message: Pick,
    },
    DeleteAnswer {
        who: Who,
        attempt: Pick,
    },
    Begin {
        who: Who,
        kind: u8,
        scope: u8,
        endpoint: Pick,
        filter: u8,
        message: Pick,
    },
    TakeTurn,
    Step {
        turn: Pick,
    },
    EndTurn {
        turn: Pick,
    },
    CancelWork {
        who: Who,
        work: Pick,
    },
    /// Every lease on background work runs out.
    TurnsLapse,
    Heartbeat {
        process: u8,
        sparing: bool,
        /// The process is leaving: it takes nothing.
        leaving: bool,
    },
    HandBack {
        process: u8,
        slots: Vec<u8>,
    },
    Depart {
        process: u8,
    },
    /// A process is not heard of for longer than its leases.
    Lapse {
        process: u8,
    },
    Bury {
        limit: u8,
    },
    ExpireContents,
    EndWithoutContent {
        messages: Vec<Pick>,
    },
    /// Days.
    Expire {
        back: u8,
    },
    JudgeFailing {
        hours: u8,
    },
    WidenCounts,
    Forget,
    AddKey {
        other: bool,
    },
    RevokeKey {
        who: Who,
        key: Pick,
    },
    KeysUsed {
        keys: Vec<Pick>,
        back: u32,
    },
    Look(Look),
}

impl Act {
    /// The same with somebody else's token; `None`: it is nobody's, or not the owner's.
    pub fn with_token_of(&self, other: Who) -> Option<Act> {
        let mut act = self.clone();
        match &mut act {
            Act::UpdateApp { who, .. }
            | Act::DeleteApp { who, .. }
            | Act::CreateEndpoint { who, .. }
            | Act::UpdateEndpoint { who, .. }
            | Act::DeleteEndpoint { who, .. }
            | Act::RotateSecret { who, .. }
            | Act::ChangeHeaders { who, .. }
            | Act::SendExample { who, .. }
            | Act::Resend { who, .. }
            | Act::Cancel { who, .. }
            | Act::DeleteContent { who, .. }
            | Act::DeleteAnswer { who, .. }
            | Act::Begin { who, .. }
            | Act::CancelWork { who, .. }
            | Act::RevokeKey { who, .. }
                if *who == Who::Owner =>
            {
                *who = other;
            }
            _ => return None,
        }
        Some(act)
    }
}
