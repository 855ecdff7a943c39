//! Command-line arguments of a bench: `--name value`.

/// The arguments after the program's name.
pub struct Arguments(Vec<String>);

impl Arguments {
    pub fn read() -> Arguments {
        Arguments(std::env::args().skip(1).collect())
    }

    /// Whether the flag is present.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|argument| argument == name)
    }

    /// The value after `name`.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().skip_while(|argument| *argument != name).nth(1).map(String::as_str)
    }

    /// The value after `name` as a number, if present.
    ///
    /// # Panics
    /// The value is not a number: a typo must not run the default for an hour.
    pub fn given_number(&self, name: &str) -> Option<f64> {
        self.text(name)
            .map(|text| text.replace('_', "").parse().unwrap_or_else(|_| panic!("{name} {text}: expected a number")))
    }

    pub fn number(&self, name: &str, default: f64) -> f64 {
        self.given_number(name).unwrap_or(default)
    }

    pub fn count(&self, name: &str, default: usize) -> usize {
        self.number(name, default as f64) as usize
    }
}
