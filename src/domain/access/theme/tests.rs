//! Themed colours stay readable, and unreadable combinations are rejected.

use crate::domain::access::theme::*;

fn colour(text: &str) -> Colour {
    text.parse().unwrap()
}

fn token(theme: &Theme, name: &str) -> Token {
    theme.tokens().into_iter().find(|token| token.name == name).unwrap_or_else(|| panic!("no token {name}"))
}

/// `#fff` is `#ffffff`.
fn long(hex: &str) -> String {
    if hex.len() == 3 { hex.chars().flat_map(|c| [c, c]).collect() } else { hex.to_owned() }
}

#[test]
fn the_colours_are_those_of_the_style_sheet() {
    let sheet = include_str!("../../../../static/tokens.css");
    let in_sheet = |name: &str| -> Vec<Colour> {
        let marker = format!("--{name}:");
        let values = sheet.split(&marker).skip(1).filter_map(|rest| rest.split(';').next());
        let digits = |text: &str| text.split(|c: char| !c.is_ascii_hexdigit()).next().unwrap_or_default().to_owned();
        values
            .flat_map(|value| value.split('#').skip(1))
            .map(|hex| colour(&format!("#{}", long(&digits(hex)))))
            .collect()
    };
    let (light, dark) = (LIGHT.named().into_iter().chain(LIGHT.states), DARK.named().into_iter().chain(DARK.states));
    for ((name, light), (_, dark)) in light.zip(dark) {
        assert_eq!(in_sheet(name), [light, dark], "{name}");
    }
}

#[test]
fn every_accent_is_readable_in_light_and_dark() {
    for accent in ["#000000", "#ffffff", "#ffe600", "#0b6e4f", "#808080", "#ff0000", "#2b4fc7", "#00ffff", "#7f00ff"] {
        let theme = Theme { accent: Some(colour(accent)), ..Theme::default() };
        let (soft, ink, accented) =
            (token(&theme, "accent-soft"), token(&theme, "accent-ink"), token(&theme, "accent"));
        assert!(accented.light.readable_on(&[LIGHT.ground, LIGHT.surface, LIGHT.sunken, soft.light]), "{accent}");
        assert!(accented.dark.readable_on(&[DARK.ground, DARK.surface, DARK.sunken, soft.dark]), "{accent}");
        assert!(ink.light.readable_on(&[accented.light]) && ink.dark.readable_on(&[accented.dark]), "{accent}");
    }
    // A readable accent stays unchanged, and only the accent colours differ from the default theme.
    let theme = Theme { accent: Some(colour("#0b6e4f")), ..Theme::default() };
    assert_eq!(token(&theme, "accent").light, colour("#0b6e4f"));
    let names: Vec<&str> = theme.tokens().iter().map(|token| token.name).collect();
    assert_eq!(names, ["accent", "accent-ink", "accent-soft"]);
    assert_eq!(Theme::default().tokens(), []);
}

#[test]
fn intermediate_colours_are_derived_from_grounds_and_ink() {
    let light =
        Palette { ground: Some(colour("#fff8ee")), surface: Some(colour("#fffdf8")), ink: Some(colour("#2d1f12")) };
    let theme = Theme { light, ..Theme::default() };
    assert_eq!(theme.light.check(ColourScheme::Light), Ok(()));
    let soft = token(&theme, "ink-soft");
    assert!(soft.light.readable_on(&[colour("#fff8ee"), colour("#fffdf8"), token(&theme, "sunken").light]));
    assert_eq!(soft.dark, DARK.ink_soft, "dark is left alone");
    assert!(token(&theme, "rule").light.luminance() < colour("#fffdf8").luminance());
}

#[test]
fn unreadable_colours_are_rejected_with_their_field() {
    let palette = |ground: Option<&str>, surface: Option<&str>, ink: Option<&str>| Palette {
        ground: ground.map(colour),
        surface: surface.map(colour),
        ink: ink.map(colour),
    };
    for (palette, shade, field) in [
        (palette(None, Some("#888888"), None), ColourScheme::Light, "surface"),
        (palette(Some("#202020"), None, None), ColourScheme::Light, "ground"),
        (palette(None, Some("#ffffff"), None), ColourScheme::Dark, "surface"),
    ] {
        let wrong = palette.check(shade).unwrap_err();
        assert_eq!(wrong.iter().map(|wrong| wrong.field.as_str()).collect::<Vec<_>>(), [field]);
    }
    let wrong = palette(None, None, Some("#aaaaaa")).check(ColourScheme::Light).unwrap_err();
    assert!(wrong.iter().all(|wrong| wrong.field == "ink") && wrong[0].reason.contains("4.5:1"), "{wrong:?}");
    let round = Theme { radius: Some(17), ..Theme::default() };
    assert_eq!(round.check().unwrap_err()[0].field, "radius");
}

#[test]
fn a_logo_is_an_image_of_a_named_host_and_breaks_no_header() {
    let origin = |logo: &str| Theme { logo: Some(logo.into()), ..Theme::default() }.logo_origin();
    assert_eq!(origin("https://CDN.example.com/a/logo.svg?v=2").as_deref(), Some("https://cdn.example.com"));
    assert_eq!(origin("https://cdn.example.com:8443/x").as_deref(), Some("https://cdn.example.com:8443"));
    for bad in [
        "",
        "logo.svg",
        "http://cdn.example.com/x",
        "data:image/svg+xml,x",
        "javascript:alert(1)",
        "https://a;script-src'unsafe-inline'/x",
        "https://a,b/x",
        "https://10.0.0.1/x",
        "https://[::1]/x",
        "https://user:pw@cdn.example.com/x",
        &format!("https://cdn.example.com/{}", "a".repeat(limits::URL)),
    ] {
        assert_eq!(origin(bad), None, "{bad}");
        let theme = Theme { logo: Some(bad.into()), ..Theme::default() };
        assert_eq!(theme.check().unwrap_err()[0].field, "logo", "{bad}");
    }
}
