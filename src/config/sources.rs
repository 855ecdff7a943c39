//! Merges the sources of settings. A flag overrides the environment, the environment overrides the TOML file, and the
//! file overrides the default. An empty value counts as unset.

use std::collections::BTreeMap;

use super::settings::{SETTINGS, Setting};

/// An invalid setting, in one line: the setting, what is wrong, and the expected format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum SettingSource {
    Flag,
    Environment,
    File(String),
    Default,
    /// A command that needs a fixed value, such as the demo's temporary database.
    Command,
}

#[derive(Clone, Debug)]
struct SettingValue {
    text: String,
    source: SettingSource,
}

/// The values of all settings, as text.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    values: BTreeMap<&'static str, SettingValue>,
}

impl Settings {
    /// Merges all sources. `flag` looks a flag up by setting name, and `variable` an environment variable.
    ///
    /// # Errors
    /// The file is unreadable, is not TOML, or contains an unknown key.
    pub fn from_sources(
        flag: impl Fn(&str) -> Option<String>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Settings, ConfigError> {
        let mut settings = Settings::default();
        for setting in &SETTINGS {
            settings.set_default(setting, flag(setting.name), SettingSource::Flag);
            settings.set_default(setting, variable(&setting.variable()), SettingSource::Environment);
        }
        if let Some(path) = settings.get("config").map(str::to_owned) {
            settings.load_file(&path)?;
        }
        for setting in &SETTINGS {
            settings.set_default(setting, setting.default.map(str::to_owned), SettingSource::Default);
        }
        Ok(settings)
    }

    /// Sets a value unless it is empty or a source of higher precedence has set one.
    fn set_default(&mut self, setting: &'static Setting, text: Option<String>, source: SettingSource) {
        let text = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        if let Some(text) = text {
            self.values.entry(setting.name).or_insert(SettingValue { text, source });
        }
    }

    fn load_file(&mut self, path: &str) -> Result<(), ConfigError> {
        let wrong = |what: String| ConfigError(format!("the file {path} (--config): {what}"));
        let text = std::fs::read_to_string(path).map_err(|error| wrong(format!("can't be read: {error}")))?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.as_bytes()[..before].iter().filter(|byte| **byte == b'\n').count() + 1;
            wrong(format!("line {line} is not TOML: {}", error.message().replace('\n', " ")))
        })?;
        for (key, value) in table {
            let setting = SETTINGS.iter().find(|setting| setting.name == key && key != "config");
            let setting = setting.ok_or_else(|| wrong(format!("{key:?} is not a setting; {}", suggestion(&key))))?;
            let text = toml_to_text(&value).ok_or_else(|| {
                let kind = value.type_str();
                wrong(format!("{key} is a TOML {kind}; expected a string, number or boolean: {}", setting.form))
            })?;
            self.set_default(setting, Some(text), SettingSource::File(path.to_owned()));
        }
        Ok(())
    }

    /// The value of `name`, which may be its default.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|given| given.text.as_str())
    }

    /// Whether a source other than the default sets `name`.
    pub fn is_set(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|given| given.source != SettingSource::Default)
    }

    /// Sets `name` on behalf of a command, overriding every source.
    pub fn override_with(&mut self, name: &'static str, text: impl Into<String>) {
        self.values.insert(name, SettingValue { text: text.into(), source: SettingSource::Command });
    }

    /// Parses a setting that has a default.
    ///
    /// # Errors
    /// The value is invalid.
    pub fn parse<T>(
        &self,
        name: &'static str,
        parser: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        parser(self.get(name).unwrap_or_default()).map_err(|what| self.error(name, &what))
    }

    /// Parses a setting that may be unset.
    ///
    /// # Errors
    /// The value is invalid.
    pub fn parse_optional<T>(
        &self,
        name: &'static str,
        parser: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        self.get(name).map(parser).transpose().map_err(|what| self.error(name, &what))
    }

    /// An error about a setting: `what` completes a sentence that starts with the value.
    pub fn error(&self, name: &'static str, what: &str) -> ConfigError {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
            return ConfigError(format!("{name}: {what}"));
        };
        let given = self.values.get(name);
        let value = match given {
            Some(given) if !setting.secret => format!(": {:?}", truncate(&given.text)),
            _ => String::new(),
        };
        let source = given.map(|given| given.source.describe(setting)).unwrap_or_default();
        ConfigError(format!("{}{value} {what}; expected {}{source}", setting.variable(), setting.form))
    }
}

impl SettingSource {
    fn describe(&self, setting: &Setting) -> String {
        match self {
            SettingSource::Flag => format!(" (set by --{})", setting.flag()),
            SettingSource::File(path) => format!(" (set in {path})"),
            SettingSource::Environment | SettingSource::Default | SettingSource::Command => String::new(),
        }
    }
}

fn truncate(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    let mut short: String = text.chars().take(MAX_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// A TOML value as it would be written in the environment.
fn toml_to_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(boolean) => Some(boolean.to_string()),
        toml::Value::Array(list) => {
            let items: Option<Vec<&str>> = list.iter().map(toml::Value::as_str).collect();
            items.map(|items| items.join(","))
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

/// Suggests the setting that `key` may stand for.
fn suggestion(key: &str) -> String {
    let bare = key.to_ascii_lowercase().replace('-', "_");
    let bare = bare.strip_prefix("sendoff_").unwrap_or(&bare);
    let is_similar =
        |setting: &&Setting| setting.name == bare || setting.name.contains(bare) || bare.contains(setting.name);
    match SETTINGS.iter().filter(|setting| setting.name != "config").find(is_similar) {
        Some(setting) => format!("did you mean {}?", setting.name),
        None => "`sendoff serve --help` lists them; the file uses snake_case, such as max_payload".to_owned(),
    }
}
