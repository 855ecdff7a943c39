//! Sequences of acts, made at random: each kind of act as often as it is interesting.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::acts::{Act, Came, End, Ends, Item, Look, Pick, Who};

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![16 => Just(Who::Owner), 2 => Just(Who::Customer), 1 => Just(Who::Stranger), 1 => Just(Who::Neighbour)]
}

fn ends() -> impl Strategy<Value = Ends> {
    let filters = (option::weighted(0.4, 1..16_u8), option::weighted(0.3, 1..4_u8));
    (option::weighted(0.4, 0..3_u8), prop::bool::weighted(0.15), filters, option::weighted(0.2, 1..100_u16), 0..4_u8)
        .prop_map(|(uid, disabled, (types, channels), rate, url)| Ends { uid, disabled, types, channels, rate, url })
}

fn item() -> impl Strategy<Value = Item> {
    let to = (who(), any::<Pick>(), any::<bool>(), option::weighted(0.1, any::<Pick>()));
    let what = (0..4_u8, option::weighted(0.4, 0..5_u8), 0..4_u8, prop::bool::weighted(0.15));
    let when = (option::weighted(0.15, -60..7_200_i32), option::weighted(0.15, 60..7_200_u32));
    (to, what, when, prop::bool::weighted(0.04)).prop_map(
        |((who, app, by_uid, only), (event_type, event_id, channels, tag), (deliver_in, keep), broken)| Item {
            who,
            app,
            by_uid,
            event_type,
            event_id,
            channels,
            tag,
            deliver_in,
            keep,
            only,
            broken,
        },
    )
}

fn end() -> impl Strategy<Value = End> {
    let came = prop_oneof![
        4 => Just(Came::Delivered),
        3 => Just(Came::Failed),
        2 => Just(Came::Silent),
        2 => Just(Came::Exhausted),
        1 => Just(Came::Gone),
    ];
    (any::<Pick>(), came, 0..4_u8, prop::bool::weighted(0.15), prop::bool::weighted(0.15))
        .prop_map(|(flight, came, took, late, again)| End { flight, came, took, late, again })
}

fn look() -> impl Strategy<Value = Look> {
    (any::<Pick>(), who(), any::<Pick>(), any::<Pick>(), 1..6_u8, any::<bool>(), any::<u8>()).prop_map(
        |(view, who, app, thing, limit, newest, filter)| Look { view, who, app, thing, limit, newest, filter },
    )
}

fn once() -> impl Strategy<Value = Option<u8>> {
    option::weighted(0.1, 0..4_u8)
}

/// Who owns what is sent where.
fn things() -> BoxedStrategy<Act> {
    let uid = || option::weighted(0.5, 0..3_u8);
    let rate = || option::weighted(0.2, 1..100_u16);
    let pick = any::<Pick>;
    prop_oneof![
        2 => (any::<bool>(), uid(), rate(), once())
            .prop_map(|(other, uid, rate, once)| Act::CreateApp { other, uid, rate, once }),
        2 => (who(), pick(), uid(), rate()).prop_map(|(who, app, uid, rate)| Act::UpdateApp { who, app, uid, rate }),
        1 => (who(), 64..=255_u8).prop_map(|(who, app)| Act::DeleteApp { who, app }),
        6 => (who(), pick(), ends(), once()).prop_map(|(who, app, ends, once)| Act::CreateEndpoint { who, app, ends, once }),
        3 => (who(), pick(), ends(), prop::bool::weighted(0.2))
            .prop_map(|(who, endpoint, ends, stale)| Act::UpdateEndpoint { who, endpoint, ends, stale }),
        3 => pick().prop_map(|endpoint| Act::Toggle { endpoint }),
        2 => (who(), pick()).prop_map(|(who, endpoint)| Act::DeleteEndpoint { who, endpoint }),
        3 => (who(), pick(), 0..100_u32).prop_map(|(who, endpoint, grace)| Act::RotateSecret { who, endpoint, grace }),
        1 => (who(), pick(), 0..4_u8).prop_map(|(who, endpoint, value)| Act::ChangeHeaders { who, endpoint, value }),
        1 => (any::<bool>(), 0..4_u8).prop_map(|(other, name)| Act::CreateEventType { other, name }),
        1 => (any::<bool>(), 0..4_u8, any::<bool>()).prop_map(|(other, name, flag)| Act::PutEventType { other, name, flag }),
        1 => (any::<bool>(), 0..4_u8, any::<bool>())
            .prop_map(|(other, name, expunge)| Act::DeleteEventType { other, name, expunge }),
        1 => any::<bool>().prop_map(|other| Act::AddKey { other }),
        1 => (who(), pick()).prop_map(|(who, key)| Act::RevokeKey { who, key }),
        1 => (vec(pick(), 1..3), 0..600_u32).prop_map(|(keys, back)| Act::KeysUsed { keys, back }),
    ]
    .boxed()
}

/// What happens to messages and their deliveries.
fn traffic() -> BoxedStrategy<Act> {
    let pick = any::<Pick>;
    prop_oneof![
        8 => (vec(item(), 1..6), once()).prop_map(|(items, once)| Act::Accept { items, once }),
        1 => (who(), pick()).prop_map(|(who, endpoint)| Act::SendExample { who, endpoint }),
        3 => vec(item(), 1..4).prop_map(|items| Act::Outbox { items }),
        4 => (1..5_u8).prop_map(|limit| Act::Relay { limit }),
        1 => Just(Act::RetryOutbox),
        8 => (vec(pick(), 1..6), 0..3_u8).prop_map(|(deliveries, slot)| Act::Send { deliveries, slot }),
        16 => vec(end(), 1..5).prop_map(|ends| Act::Record { ends }),
        2 => (who(), pick(), pick(), once())
            .prop_map(|(who, message, endpoint, once)| Act::Resend { who, message, endpoint, once }),
        2 => (who(), pick()).prop_map(|(who, delivery)| Act::Cancel { who, delivery }),
        1 => (who(), pick()).prop_map(|(who, message)| Act::DeleteContent { who, message }),
        1 => (who(), pick()).prop_map(|(who, attempt)| Act::DeleteAnswer { who, attempt }),
    ]
    .boxed()
}

/// Who is at what: background work, slots.
fn leases() -> BoxedStrategy<Act> {
    let pick = any::<Pick>;
    let begin = (who(), 0..3_u8, 0..3_u8, pick(), prop_oneof![1 => Just(0), 2 => any::<u8>()], pick());
    prop_oneof![
        4 => begin.prop_map(|(who, kind, scope, endpoint, filter, message)| {
            Act::Begin { who, kind, scope, endpoint, filter, message }
        }),
        3 => Just(Act::TakeTurn),
        6 => pick().prop_map(|turn| Act::Step { turn }),
        1 => pick().prop_map(|turn| Act::EndTurn { turn }),
        1 => (who(), pick()).prop_map(|(who, work)| Act::CancelWork { who, work }),
        1 => Just(Act::TurnsLapse),
        6 => (0..3_u8, prop::bool::weighted(0.4), prop::bool::weighted(0.1))
            .prop_map(|(process, sparing, leaving)| Act::Heartbeat { process, sparing, leaving }),
        1 => (0..3_u8, vec(any::<u8>(), 0..5)).prop_map(|(process, slots)| Act::HandBack { process, slots }),
        1 => (0..3_u8).prop_map(|process| Act::Depart { process }),
        2 => (0..3_u8).prop_map(|process| Act::Lapse { process }),
    ]
    .boxed()
}

/// What the sweep does.
fn sweep() -> BoxedStrategy<Act> {
    prop_oneof![
        2 => (1..20_u8).prop_map(|limit| Act::Bury { limit }),
        2 => Just(Act::ExpireContents),
        1 => vec(any::<Pick>(), 1..4).prop_map(|messages| Act::EndWithoutContent { messages }),
        2 => (3..40_u8).prop_map(|back| Act::Expire { back }),
        2 => (1..200_u8).prop_map(|hours| Act::JudgeFailing { hours }),
        1 => Just(Act::WidenCounts),
        1 => Just(Act::Forget),
    ]
    .boxed()
}

fn wait() -> BoxedStrategy<Act> {
    prop_oneof![4 => 1..60_u32, 2 => 60..7_200_u32, 1 => 7_200..172_800_u32, 2 => 345_600..1_728_000_u32]
        .prop_map(Act::Wait)
        .boxed()
}

/// Up to `length` acts. Every third sequence is about things, every third about leases. One that fails is shortened by leaving out acts,
/// and these stay as they are.
pub fn sequence(length: usize, seed: u64) -> impl Strategy<Value = Vec<Act>> {
    let (of_things, of_leases) = match seed % 3 {
        0 => (12, 3),
        1 => (3, 12),
        _ => (3, 3),
    };
    let act = prop_oneof![
        of_things => things(),
        12 => traffic(),
        of_leases => leases(),
        2 => sweep(),
        2 => wait(),
        5 => look().prop_map(Act::Look),
    ];
    let acts = prop_oneof![99 => act.prop_map(|act| vec![act]), 1 => age()];
    let acts = vec(option::weighted(0.97, acts.no_shrink()), length);
    acts.prop_map(|acts| acts.into_iter().flatten().flatten().collect())
}

/// Days pass, and the retention takes what was there before.
fn age() -> BoxedStrategy<Vec<Act>> {
    (4..20_u32).prop_map(|days| vec![Act::Wait(days * 86_400), Act::Expire { back: 3 }]).boxed()
}

/// What every sequence begins with: an organization with two applications, another one with one of the same name, endpoints, a
/// catalog, a message or two.
pub fn beginning() -> Vec<Act> {
    let ends = |types, channels| Ends { uid: None, disabled: false, types, channels, rate: None, url: 0 };
    let endpoint = |app, ends| Act::CreateEndpoint { who: Who::Owner, app, ends, once: None };
    let app = |other, uid| Act::CreateApp { other, uid: Some(uid), rate: None, once: None };
    let catalog = [(false, 0), (false, 1), (false, 2), (true, 0), (true, 3)];
    let mut acts: Vec<Act> = catalog.into_iter().map(|(other, name)| Act::CreateEventType { other, name }).collect();
    acts.extend([app(false, 0), app(false, 1), app(true, 0)]);
    acts.extend(
        [(0, None, None), (0, Some(0b011), None), (0, None, Some(0b01)), (1, None, None), (2, None, None)]
            .map(|(app, types, channels)| endpoint(app, ends(types, channels))),
    );
    let item = |app, event_type| Item {
        who: Who::Owner,
        app,
        by_uid: false,
        event_type,
        event_id: None,
        channels: 1,
        tag: false,
        deliver_in: None,
        keep: None,
        only: None,
        broken: false,
    };
    acts.push(Act::Accept { items: vec![item(0, 0), item(0, 2), item(1, 1), item(2, 3)], once: None });
    acts
}
