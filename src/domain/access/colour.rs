//! Colours and their contrast as defined by WCAG 2.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Minimum contrast of text (WCAG 2.2, 1.4.3, level AA).
pub const READABLE: f64 = 4.5;

/// An opaque sRGB colour (red, green, blue). Its text is `#rrggbb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Colour(pub [u8; 3]);

impl Colour {
    pub const BLACK: Colour = Colour([0; 3]);
    pub const WHITE: Colour = Colour([255; 3]);

    /// Mixes in a `share` of `other`, from 0 to 1.
    pub fn mixed(self, other: Colour, share: f64) -> Colour {
        let mix = |one: u8, other: u8| (f64::from(one) + (f64::from(other) - f64::from(one)) * share).round() as u8;
        Colour(std::array::from_fn(|part| mix(self.0[part], other.0[part])))
    }

    /// Relative luminance, from 0 (black) to 1 (white).
    pub fn luminance(self) -> f64 {
        let linear = |part: u8| {
            let part = f64::from(part) / 255.0;
            if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        };
        let [red, green, blue] = self.0.map(linear);
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    /// Contrast ratio, from 1 (same colour) to 21 (black on white).
    pub fn contrast(self, other: Colour) -> f64 {
        let (one, other) = (self.luminance() + 0.05, other.luminance() + 0.05);
        one.max(other) / one.min(other)
    }

    /// Whether text in this colour is readable on all `grounds`.
    pub fn readable_on(self, grounds: &[Colour]) -> bool {
        grounds.iter().all(|ground| self.contrast(*ground) >= READABLE)
    }

    /// Black or white text for this background, whichever has more contrast. It always reaches [`READABLE`].
    pub fn ink(self) -> Colour {
        if self.contrast(Colour::WHITE) >= self.contrast(Colour::BLACK) { Colour::WHITE } else { Colour::BLACK }
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [red, green, blue] = self.0;
        write!(f, "#{red:02x}{green:02x}{blue:02x}")
    }
}

/// The text is not `#rrggbb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a colour such as #0b6e4f: a # and six hexadecimal digits")]
pub struct ColourError;

impl FromStr for Colour {
    type Err = ColourError;

    fn from_str(text: &str) -> Result<Colour, ColourError> {
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6).ok_or(ColourError)?;
        let mut parts = [0; 3];
        hex::decode_to_slice(digits, &mut parts).map_err(|_| ColourError)?;
        Ok(Colour(parts))
    }
}

impl TryFrom<String> for Colour {
    type Error = ColourError;

    fn try_from(text: String) -> Result<Colour, ColourError> {
        text.parse()
    }
}

impl From<Colour> for String {
    fn from(colour: Colour) -> String {
        colour.to_string()
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::access::colour::*;

    fn colour(text: &str) -> Colour {
        text.parse().unwrap()
    }

    #[test]
    fn six_digits_and_nothing_else() {
        assert_eq!(colour("#0B6e4F").to_string(), "#0b6e4f");
        for bad in ["", "#", "0b6e4f", "#fff", "#0b6e4f00", "#0b6e4g", "#0b6e4", " #0b6e4f", "red", "#ä6e4f", "#fff;}"]
        {
            assert_eq!(bad.parse::<Colour>(), Err(ColourError), "{bad:?}");
        }
    }

    #[test]
    fn contrast_is_that_of_the_standard() {
        assert!((Colour::BLACK.contrast(Colour::WHITE) - 21.0).abs() < 1e-9);
        // The lightest grey that is readable on white, and the next lighter one.
        assert!(colour("#767676").readable_on(&[Colour::WHITE]) && !colour("#777777").readable_on(&[Colour::WHITE]));
        assert_eq!(Colour::BLACK.mixed(Colour::WHITE, 0.5), colour("#808080"));
        for grey in 0..=255 {
            let grey = Colour([grey; 3]);
            assert!(grey.ink().readable_on(&[grey]), "{grey}");
        }
    }
}
