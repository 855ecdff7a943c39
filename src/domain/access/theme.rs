//! Portal themes: a team's colours, logo and default mode. All text stays readable.
//!
//! * [`Theme`] – the team's settings.
//! * [`Palette`] – background and text colours for light or dark mode. Unreadable combinations are rejected.
//! * The **accent** is one colour for both modes. No colour is readable on both white and near-black, so it is darkened
//!   or lightened until it is.
//! * [`Token`] – a named colour of the style sheet, in light and dark.

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::domain::access::colour::{Colour, READABLE};
use crate::domain::{Invalid, limits};

/// The largest corner radius, in pixels.
pub const MAX_RADIUS: u8 = 16;
/// Number of steps when the accent is moved to black or white, and soft ink to its background.
const STEPS: u32 = 40;

/// The team's settings. All are optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Theme {
    /// Colour of links and primary buttons.
    pub accent: Option<Colour>,
    pub light: Palette,
    pub dark: Palette,
    /// Corner radius in pixels.
    pub radius: Option<u8>,
    /// An image at an https URL.
    pub logo: Option<String>,
    pub mode: ThemeMode,
}

/// Background and text colours of one mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Palette {
    /// Page background.
    pub ground: Option<Colour>,
    /// Background of tables and fields.
    pub surface: Option<Colour>,
    /// Text colour.
    pub ink: Option<Colour>,
}

/// The default mode, until the customer chooses one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThemeMode {
    /// The setting of the customer's system.
    #[default]
    Auto,
    Light,
    Dark,
}

/// A named colour of the style sheet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub name: &'static str,
    pub light: Colour,
    pub dark: Colour,
}

/// The colours of `static/tokens.css` that a theme can change, and those that must be readable on its backgrounds.
struct Base {
    ground: Colour,
    surface: Colour,
    sunken: Colour,
    ink: Colour,
    ink_soft: Colour,
    rule: Colour,
    rule_strong: Colour,
    accent: Colour,
    accent_ink: Colour,
    accent_soft: Colour,
    states: [(&'static str, Colour); 5],
}

const fn rgb(hex: u32) -> Colour {
    Colour([(hex >> 16) as u8, (hex >> 8) as u8, hex as u8])
}

static LIGHT: Base = Base {
    ground: rgb(0xf6f7f9),
    surface: rgb(0xffffff),
    sunken: rgb(0xf1f3f6),
    ink: rgb(0x171b21),
    ink_soft: rgb(0x59636f),
    rule: rgb(0xdfe3e8),
    rule_strong: rgb(0xc3cad3),
    accent: rgb(0x2b4fc7),
    accent_ink: rgb(0xffffff),
    accent_soft: rgb(0xeaeffc),
    states: [
        ("ok", rgb(0x17713f)),
        ("warn", rgb(0x8a5300)),
        ("bad", rgb(0xbb2430)),
        ("dead", rgb(0x7e1220)),
        ("quiet", rgb(0x5f6975)),
    ],
};

static DARK: Base = Base {
    ground: rgb(0x0e1116),
    surface: rgb(0x151a20),
    sunken: rgb(0x0f1318),
    ink: rgb(0xe4e8ed),
    ink_soft: rgb(0x98a3b0),
    rule: rgb(0x262d36),
    rule_strong: rgb(0x3d4753),
    accent: rgb(0x93b0ff),
    accent_ink: rgb(0x0b1330),
    accent_soft: rgb(0x1b2540),
    states: [
        ("ok", rgb(0x58c78b)),
        ("warn", rgb(0xe3ae4e)),
        ("bad", rgb(0xff8a8f)),
        ("dead", rgb(0xf4636f)),
        ("quiet", rgb(0x98a3b0)),
    ],
};

impl Base {
    /// The colours that a theme can change, with their names.
    fn named(&self) -> [(&'static str, Colour); 10] {
        [
            ("ground", self.ground),
            ("surface", self.surface),
            ("sunken", self.sunken),
            ("ink", self.ink),
            ("ink-soft", self.ink_soft),
            ("rule", self.rule),
            ("rule-strong", self.rule_strong),
            ("accent", self.accent),
            ("accent-ink", self.accent_ink),
            ("accent-soft", self.accent_soft),
        ]
    }

    /// Applies a theme's colours and derives the intermediate ones.
    fn themed(&self, palette: &Palette, accent: Option<Colour>) -> Base {
        let ground = palette.ground.unwrap_or(self.ground);
        let surface = palette.surface.unwrap_or(self.surface);
        let ink = palette.ink.unwrap_or(self.ink);
        let ours = *palette == Palette::default();
        let between = |usual: Colour, share: f64| if ours { usual } else { surface.mixed(ink, share) };
        let sunken = between(self.sunken, 0.04);
        let themed = Base {
            ground,
            surface,
            sunken,
            ink,
            ink_soft: if ours { self.ink_soft } else { soft(ink, surface, &[ground, surface, sunken]) },
            rule: between(self.rule, 0.13),
            rule_strong: between(self.rule_strong, 0.25),
            ..*self
        };
        if ours && accent.is_none() { themed } else { themed.accented(accent.unwrap_or(self.accent)) }
    }

    /// Applies an accent, adjusted until it is readable on every background including its own soft one.
    fn accented(self, wanted: Colour) -> Base {
        let end = self.surface.ink();
        let soft = |accent: Colour| self.surface.mixed(accent, 0.1);
        let steps = (0..=STEPS).map(|step| wanted.mixed(end, f64::from(step) / f64::from(STEPS)));
        let readable = |accent: &Colour| accent.readable_on(&[self.ground, self.surface, self.sunken, soft(*accent)]);
        let accent = steps.into_iter().find(readable).unwrap_or(end);
        Base { accent, accent_ink: accent.ink(), accent_soft: soft(accent), ..self }
    }
}

/// The ink mixed with as much of its background as stays readable on all of `on`.
fn soft(ink: Colour, ground: Colour, on: &[Colour]) -> Colour {
    let steps = (0..=STEPS / 2).rev().map(|step| ink.mixed(ground, f64::from(step) / f64::from(STEPS)));
    steps.into_iter().find(|soft| soft.readable_on(on)).unwrap_or(ink)
}

/// The mode a palette is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColourScheme {
    Light,
    Dark,
}

impl ColourScheme {
    fn base(self) -> &'static Base {
        match self {
            ColourScheme::Light => &LIGHT,
            ColourScheme::Dark => &DARK,
        }
    }
}

impl Palette {
    /// Checks that all text is readable on the backgrounds.
    ///
    /// # Errors
    /// Each unreadable combination, with its contrast.
    pub fn check(&self, shade: ColourScheme) -> Result<(), Vec<Invalid>> {
        let base = shade.base();
        let themed = base.themed(self, None);
        let mut wrong = Vec::new();
        let grounds = [("ground", self.ground, themed.ground), ("surface", self.surface, themed.surface)];
        for (field, given, ground) in grounds {
            let ink = self.ink.filter(|ink| !ink.readable_on(&[ground]));
            if let Some(ink) = ink {
                wrong.push(unreadable("ink", ink, &format!("on the {field} {ground}"), ground));
            }
            let others = [("ink", base.ink)].into_iter().filter(|_| self.ink.is_none()).chain(base.states);
            let lost = given.and_then(|_| others.into_iter().find(|(_, colour)| !colour.readable_on(&[ground])));
            if let Some((other, colour)) = lost {
                wrong.push(unreadable(field, ground, &format!("under the {other} {colour}"), colour));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

fn unreadable(field: &str, colour: Colour, place: &str, other: Colour) -> Invalid {
    let contrast = (colour.contrast(other) * 10.0).floor() / 10.0;
    Invalid::new(field, format!("has a contrast of {contrast}:1 {place}; at least {READABLE}:1 is needed"))
}

impl Theme {
    /// Checks radius and logo; palettes have [their own check](Palette::check).
    ///
    /// # Errors
    /// Every broken rule, not only the first.
    pub fn check(&self) -> Result<(), Vec<Invalid>> {
        let mut wrong = Vec::new();
        if self.radius.is_some_and(|radius| radius > MAX_RADIUS) {
            wrong.push(Invalid::new("radius", format!("must be 0 to {MAX_RADIUS} pixels")));
        }
        if self.logo.is_some() && self.logo_origin().is_none() {
            let reason = format!("must be an https URL of at most {} bytes, with a host name", limits::URL);
            wrong.push(Invalid::new("logo", reason));
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// The logo's origin, e.g. `https://cdn.example.com`. Safe to use in a Content-Security-Policy header.
    pub fn logo_origin(&self) -> Option<String> {
        let url: Url = self.logo.as_deref().filter(|text| text.len() <= limits::URL)?.parse().ok()?;
        let plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        let named = matches!(url.host(), Some(Host::Domain(name)) if plain(name));
        let anonymous = url.username().is_empty() && url.password().is_none();
        (url.scheme() == "https" && named && anonymous).then(|| url.origin().ascii_serialization())
    }

    /// The colours that differ from the default theme.
    pub fn tokens(&self) -> Vec<Token> {
        let (light, dark) = (LIGHT.themed(&self.light, self.accent), DARK.themed(&self.dark, self.accent));
        let both = light.named().into_iter().zip(dark.named());
        let ours = LIGHT.named().into_iter().zip(DARK.named());
        let changed = both.zip(ours).filter(|(themed, ours)| themed != ours).map(|(themed, _)| themed);
        changed.map(|((name, light), (_, dark))| Token { name, light, dark }).collect()
    }
}

#[cfg(test)]
mod tests;
