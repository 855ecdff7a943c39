//! Parameters, iterators and pages of lists.

use proptest::prelude::*;

use crate::api::http::query::*;
use crate::fuzzing::{fuzz, words};

#[test]
fn list_parameters_may_be_joined_and_repeated() {
    let query = Query::parse(
        "event_types=a%2Cb&event_types=c,&event_types[]=d&event_types%5B%5D=e&x=&flag=false&after=2026-11-22T09:30:00%2B00:00",
    );
    assert_eq!(query.list("event_types"), ["a", "b", "c", "d", "e"]);
    assert!(query.list("x").is_empty() && query.text("x") == Ok(None));
    assert!(query.text("event_types").is_err(), "given twice");
    assert_eq!((query.flag("flag", true), query.flag("none", true)), (Ok(false), Ok(true)));
    assert!(query.time("after").unwrap().is_some());
    assert!(query.time("event_types").is_err() && query.flag("event_types", true).is_err());
}

#[test]
fn an_unescaped_plus_in_an_offset_is_accepted() {
    let time = |text: &str| Query::parse(&format!("after={text}")).time("after");
    let wanted = Time::parse("2026-11-22T09:30:00+02:00").unwrap();
    for text in ["2026-11-22T09:30:00%2B02:00", "2026-11-22T09:30:00+02:00", "2026-11-22+09:30:00+02:00"] {
        assert_eq!(time(text), Ok(Some(wanted)), "{text}");
    }
    let utc = Time::parse("2026-11-22T09:30:00Z").unwrap();
    assert_eq!(time("2026-11-22+09:30:00+UTC"), Ok(Some(utc)));
    for text in ["+", "2026-11-22+09:30:00", "a+b", "+UTC", "2026-11-22+UTC", "2026-11-22T09:30:00-+02:00", "+02:00"] {
        assert!(time(text).is_err(), "{text}");
    }
}

#[test]
fn page_parameters_are_bounded() {
    for bad in ["limit=0", "limit=251", "limit=x", "order=up", "iterator=msg_1", "iterator=-"] {
        assert!(Query::parse(bad).page::<AppId>(Order::Ascending, true).is_err(), "{bad}");
    }
    let page = Query::parse("limit=250&order=descending").page::<AppId>(Order::Ascending, true).unwrap();
    assert_eq!((page.limit, page.order), (250, Order::Descending));
    let fixed = Query::parse("order=up").page::<AppId>(Order::Descending, false).unwrap();
    assert_eq!(fixed.order, Order::Descending, "not for this list to choose");
}

#[test]
fn a_page_is_limited_in_bytes_and_continues_where_it_ended() {
    let now = Time::ZERO;
    let items: Vec<(AppId, String)> = (0..5).map(|_| (AppId::new(now), "x".repeat(limits::PAGE_BYTES / 2))).collect();
    let page = Page { data: items, more: false };
    let ids: Vec<String> = page.data.iter().map(|item| item.0.to_string()).collect();
    let on = PageRequest::first(50, Order::Ascending);
    let list = ListOut::of(&page, &on, |item| item.0, |item| &item.1).unwrap();
    assert_eq!((list.data.len(), list.done, list.iterator.as_deref()), (1, false, Some(&*ids[0])));
    let back = PageRequest { after: Some(AppId::new(now)), back: true, ..on };
    let list = ListOut::of(&page, &back, |item| item.0, |item| &item.1).unwrap();
    assert_eq!((list.data.len(), list.done), (1, false));
    assert_eq!(list.prev_iterator, Some(format!("-{}", ids[4])), "the end that is near");
}

#[test]
fn a_name_with_a_leading_dash_does_not_walk_back() {
    let page = |iterator: &str| {
        let page = Query::parse(&format!("iterator={iterator}")).page::<String>(Order::Ascending, true).unwrap();
        (page.after.unwrap(), page.back)
    };
    for name in ["-a", "--", "a", "a-b"] {
        let name = name.to_owned();
        assert_eq!(page(&name.write()), (name.clone(), false));
        assert_eq!(page(&format!("-{}", name.write())), (name, true));
    }
}

/// Any query is accepted or rejected without a panic, and an accepted iterator is a key of the list.
#[test]
fn fuzz_list_queries() {
    let queries = "(limit|order|iterator|x)=([-a-z_0-9%+]|.){0,40}(&(limit|iterator)=.{0,20})?";
    fuzz("list_queries", queries, "-?[a-zA-Z0-9._-]{1,20}", |query, name| {
        let messages = Query::parse(query).page::<MessageId>(Order::Descending, true);
        if let Ok(page) = &messages {
            prop_assert!((1..=LIMIT.1).contains(&page.limit));
            if let Some(key) = &page.after {
                let read = MessageId::read(&key.write());
                prop_assert_eq!(read.as_ref(), Some(key));
            }
        }
        let names = Query::parse(query).page::<String>(Order::Ascending, false);
        if let Some(key) = String::read(name) {
            prop_assert_eq!(String::read(&key.write()), Some(key));
        }
        let said = |page: Result<(bool, bool), ApiError>| match page {
            Ok(page) => format!("{page:?}"),
            Err(error) => words(&error.to_string()),
        };
        Ok(vec![
            said(messages.map(|page| (page.after.is_some(), page.back))),
            said(names.map(|page| (page.after.is_some(), page.back))),
        ])
    });
}
