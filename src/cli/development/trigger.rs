//! `sendoff trigger`: sends the example of an event type as a real message, to every endpoint that subscribes to it.

use reqwest::Method;
use serde::Deserialize;
use serde_json::value::to_raw_value;
use serde_json::{Map, Value};

use super::{ApiArgs, ApiClient, ApiOperation, ClientError, payload_editor};
use crate::cli::send::{CreatedMessage, MessageRequest};
use crate::cli::{CliError, print_result};
use crate::config::Config;
use crate::domain::catalog::event_type::EventTypeSpec;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Options {
    #[command(flatten)]
    api: ApiArgs,
    /// Event type, such as invoice.paid
    #[arg(value_name = "TYPE")]
    event_type: String,
    /// Change a value of the example, as path=value (order.total=48.5); may be given more than once
    #[arg(long, value_name = "PATH=VALUE", value_parser = parse_override)]
    set: Vec<FieldOverride>,
    /// Edit the payload in $VISUAL or $EDITOR before it is sent
    #[arg(long)]
    edit: bool,
    /// Use this one of the schema's examples, counted from 0
    #[arg(long, value_name = "N")]
    example: Option<u16>,
    /// Send on these channels, separated by commas
    #[arg(long, value_name = "CHANNELS")]
    channel: Vec<String>,
}

/// A value to set in the payload.
#[derive(Clone, Debug)]
struct FieldOverride {
    path: Vec<String>,
    value: Value,
}

/// A value that is not valid JSON is a string.
fn parse_override(text: &str) -> Result<FieldOverride, String> {
    let (path, value) = text.split_once('=').ok_or("expected path=value, such as order.total=48.5")?;
    let path: Vec<String> = path.split('.').map(str::to_owned).collect();
    if path.iter().any(String::is_empty) {
        return Err("expected names between the dots of the path".to_owned());
    }
    Ok(FieldOverride { path, value: serde_json::from_str(value).unwrap_or_else(|_| Value::from(value)) })
}

impl FieldOverride {
    /// Sets the value, creating missing objects. A number in the path indexes a list.
    fn apply(&self, payload: &mut Value) -> Result<(), CliError> {
        let mut target = payload;
        for part in &self.path {
            if let Value::Array(list) = target {
                let most = list.len();
                let found = part.parse::<usize>().ok().and_then(|index| list.get_mut(index));
                target = found.ok_or_else(|| {
                    CliError::Usage(format!(
                        "--set {}: {part} is not an index of the list, which has {most} items",
                        self.path.join(".")
                    ))
                })?;
                continue;
            }
            if !target.is_object() {
                *target = Value::Object(Map::new());
            }
            target = &mut target[part.as_str()];
        }
        *target = self.value.clone();
        Ok(())
    }
}

#[derive(Deserialize)]
struct EventTypeResponse {
    schemas: Option<Map<String, Value>>,
}

pub(in crate::cli) async fn run(config: Config, options: Options) -> Result<(), CliError> {
    let api = ApiClient::new(&config, &options.api)?;
    let name = &options.event_type;
    let path = ["event-type".to_owned(), name.clone()];
    let spec = match api.request::<EventTypeResponse>(&ApiOperation::get(&path, &[])).await {
        Ok(found) => EventTypeSpec { name: name.clone(), schemas: found.schemas, ..EventTypeSpec::default() },
        Err(ClientError::Rejected(http::StatusCode::NOT_FOUND, _)) => EventTypeSpec::ping(name).ok_or_else(|| {
            CliError::Failed(format!("{name} is not in the catalog; use `sendoff send` for any payload"))
        })?,
        Err(why) => return Err(why.into()),
    };
    let mut payload = spec
        .example(options.example.map(usize::from))
        .map_err(|wrong| CliError::Failed(format!("{name} {}; use `sendoff send` for any payload", wrong.reason)))?;
    options.set.iter().try_for_each(|change| change.apply(&mut payload))?;
    let channels = super::names(&options.channel);
    let payload = match options.edit {
        true => payload_editor::edit(&payload)?,
        false => to_raw_value(&payload).map_err(|error| CliError::Failed(error.to_string()))?,
    };
    let body = MessageRequest { event_type: name, event_id: None, channels: &channels, payload: &payload }.text()?;
    let message: CreatedMessage =
        api.request(&ApiOperation::with_body(Method::POST, &api.app_path(&["msg"]), &body)).await?;
    print_result(&message.id);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_set_in_an_example() {
        let set = |payload: Value, changes: &[&str]| {
            let mut payload = payload;
            for text in changes {
                parse_override(text).unwrap().apply(&mut payload).map_err(|error| error.to_string())?;
            }
            Ok::<Value, String>(payload)
        };
        let payload = json!({"order": {"id": 1, "lines": [{"n": 1}, {"n": 2}]}, "ok": true});
        let changed =
            set(payload, &["order.id=7", "order.lines.1.n=\"x\"", "order.note=a=b", "new.deep=null", "ok.now=1.5"]);
        let wanted = json!({"order": {"id": 7, "lines": [{"n": 1}, {"n": "x"}], "note": "a=b"}, "new": {"deep": null}, "ok": {"now": 1.5}});
        assert_eq!(changed, Ok(wanted));
        assert!(set(json!({"list": [1]}), &["list.1=2"]).unwrap_err().contains("which has 1 items"));
        for wrong in ["x", "=1", "a..b=1", ".a=1"] {
            assert!(parse_override(wrong).is_err(), "{wrong}");
        }
    }
}
