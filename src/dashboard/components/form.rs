//! The form kit: controls that look and fail the same everywhere.
//!
//! * A [`Field`] – a label, a control, a line of help below it, and the reason when what was typed is refused. It writes itself
//!   (`templates/parts/field.html`); a page says `{{ form.summary() }}` and then writes its `form.fields`.
//! * A [`Form`] – the fields in their order. [`Form::typed`] fills in what was posted, [`Form::blame`] puts each [`Invalid`] at the
//!   field that it names: so a field's name is the one that the REST API and the domain know it by.
//! * A [`FormPage`] – a whole page of one form; a [`ConfirmPage`] – one that asks before something that cannot be undone.
//!
//! A handler reads the fields of [`Posted`] into what the domain checks; if that refuses, it answers with the same form and 422:
//! `page(form.typed(&posted).blame(&wrong)).answer()`.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use askama::Template;
use askama::filters::HtmlSafe;

use crate::dashboard::components::format::{Line, Typed};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::{Frame, answer};
use crate::dashboard::http::posted::Posted;
use crate::domain::{Invalid, Time};

/// One of several things to choose.
#[derive(Clone, Debug)]
pub struct Choice {
    pub value: Typed,
    pub label: Line,
    pub chosen: bool,
}

impl Choice {
    pub fn new(value: &str, label: &str, chosen: bool) -> Choice {
        Choice { value: Typed::new(value), label: Line::new(label), chosen }
    }
}

/// How a field is filled in.
#[derive(Clone, Debug)]
pub enum Control {
    /// One line. `kind` is HTML's (`text`, `url`, `email`, `password`), `offers` what the browser suggests.
    Text { kind: &'static str, offers: Vec<Typed> },
    /// A whole number within bounds.
    Number { least: u64, most: u64 },
    /// Many lines; `code`: of fixed width.
    Area { rows: usize, code: bool },
    /// One of several.
    Select(Vec<Choice>),
    /// Any of several.
    Ticks(Vec<Choice>),
    /// Yes or no; ticked if the value is not empty.
    Tick,
}

/// A label with its control.
#[derive(Clone, Debug, Template)]
#[template(path = "parts/field.html")]
pub struct Field {
    pub name: &'static str,
    pub label: &'static str,
    /// Below the control; empty: none.
    pub help: &'static str,
    pub value: Typed,
    pub control: Control,
    pub required: bool,
    /// Why what was typed is refused.
    pub wrong: Option<Line>,
}

impl HtmlSafe for Field {}

impl Field {
    fn new(name: &'static str, label: &'static str, value: &str, control: Control) -> Field {
        Field { name, label, help: "", value: Typed::new(value), control, required: false, wrong: None }
    }

    /// One line of text.
    pub fn text(name: &'static str, label: &'static str, value: &str) -> Field {
        Field::new(name, label, value, Control::Text { kind: "text", offers: Vec::new() })
    }

    /// A whole number; empty: none.
    pub fn number(name: &'static str, label: &'static str, value: Option<u64>, least: u64, most: u64) -> Field {
        let value = value.map(|value| value.to_string()).unwrap_or_default();
        Field::new(name, label, &value, Control::Number { least, most })
    }

    /// Text of many lines.
    pub fn area(name: &'static str, label: &'static str, value: &str, rows: usize) -> Field {
        Field::new(name, label, value, Control::Area { rows, code: false })
    }

    /// JSON or the like, of fixed width.
    pub fn code(name: &'static str, label: &'static str, value: &str, rows: usize) -> Field {
        Field::new(name, label, value, Control::Area { rows, code: true })
    }

    /// A list, one entry on a line; [`lines`] reads it.
    pub fn lines<'l>(name: &'static str, label: &'static str, list: impl IntoIterator<Item = &'l String>) -> Field {
        let list: Vec<&str> = list.into_iter().map(String::as_str).collect();
        Field::new(name, label, &list.join("\n"), Control::Area { rows: list.len().clamp(2, 8), code: true })
    }

    pub fn select(name: &'static str, label: &'static str, choices: Vec<Choice>) -> Field {
        Field::new(name, label, "", Control::Select(choices))
    }

    pub fn ticks(name: &'static str, label: &'static str, choices: Vec<Choice>) -> Field {
        Field::new(name, label, "", Control::Ticks(choices))
    }

    pub fn tick(name: &'static str, label: &'static str, ticked: bool) -> Field {
        Field::new(name, label, if ticked { "on" } else { "" }, Control::Tick)
    }

    /// With a line of help.
    pub fn help(self, help: &'static str) -> Field {
        Field { help, ..self }
    }

    pub fn required(self) -> Field {
        Field { required: true, ..self }
    }

    /// Of another of HTML's kinds of one line.
    pub fn kind(self, kind: &'static str) -> Field {
        match self.control {
            Control::Text { offers, .. } => Field { control: Control::Text { kind, offers }, ..self },
            _ => self,
        }
    }

    /// With what the browser suggests.
    pub fn offering<'o>(self, offers: impl IntoIterator<Item = &'o str>) -> Field {
        match self.control {
            Control::Text { kind, .. } => {
                let offers = offers.into_iter().map(Typed::new).collect();
                Field { control: Control::Text { kind, offers }, ..self }
            }
            _ => self,
        }
    }

    fn fill(&mut self, posted: &Posted) {
        match &mut self.control {
            Control::Select(choices) | Control::Ticks(choices) => {
                for choice in choices {
                    choice.chosen = posted.all(self.name).any(|value| value == choice.value.as_str());
                }
            }
            Control::Tick => self.value = Typed::new(if posted.has(self.name) { "on" } else { "" }),
            _ => self.value = Typed::new(posted.get(self.name)),
        }
    }

    /// What the control is described by: the help and the reason, those that are there.
    fn described(&self) -> Option<String> {
        let help = (!self.help.is_empty()).then(|| format!("{}-help", self.name));
        let wrong = self.wrong.is_some().then(|| format!("{}-wrong", self.name));
        let ids: Vec<String> = help.into_iter().chain(wrong).collect();
        (!ids.is_empty()).then(|| ids.join(" "))
    }

    /// Several controls under one label.
    fn grouped(&self) -> bool {
        matches!(self.control, Control::Ticks(_))
    }
}

/// The hidden field that says on which state of a thing a form was filled in.
pub const SEEN: &str = "seen";

/// The fields of a form.
#[derive(Clone, Debug, Default)]
pub struct Form {
    pub fields: Vec<Field>,
    /// The state of the thing that it changes; empty where it makes a new one.
    pub seen: String,
    /// What was refused and stands in no field of it.
    pub elsewhere: Vec<Line>,
}

/// What stands at the top of a form that was refused: each reason, with the way to its field.
#[derive(Template)]
#[template(path = "parts/summary.html")]
pub struct Summary<'f> {
    wrong: Vec<(&'f Field, &'f Line)>,
    elsewhere: &'f [Line],
}

impl HtmlSafe for Summary<'_> {}

impl Form {
    pub fn new(fields: Vec<Field>) -> Form {
        Form { fields, seen: String::new(), elsewhere: Vec::new() }
    }

    /// Of a thing that was changed last at `updated_at`.
    pub fn of(self, updated_at: Time) -> Form {
        Form { seen: crate::dashboard::components::refused::seen(updated_at), ..self }
    }

    /// Holding what was typed.
    pub fn typed(mut self, posted: &Posted) -> Form {
        self.fields.iter_mut().for_each(|field| field.fill(posted));
        self
    }

    /// With the reasons at their fields.
    pub fn blame(mut self, wrong: &[Invalid]) -> Form {
        for one in wrong {
            match self.fields.iter_mut().find(|field| field.name == one.field) {
                Some(field) if field.wrong.is_none() => field.wrong = Some(Line::new(&one.reason)),
                Some(_) => {}
                None => self.elsewhere.push(Line::new(&one.to_string())),
            }
        }
        self
    }

    /// What was refused, in short.
    pub fn summary(&self) -> Summary<'_> {
        let wrong = self.fields.iter().filter_map(|field| Some((field, field.wrong.as_ref()?))).collect();
        Summary { wrong, elsewhere: &self.elsewhere }
    }

    fn refused(&self) -> bool {
        !self.elsewhere.is_empty() || self.fields.iter().any(|field| field.wrong.is_some())
    }
}

/// The entries of a list that was typed one on a line, without those that are empty.
pub fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// A whole number that was typed; `None`: nothing was.
///
/// # Errors
/// It is no whole number, or one that is far too large for the field.
pub fn number<N: std::str::FromStr>(posted: &Posted, field: &str, what: &str) -> Result<Option<N>, Invalid> {
    let Some(text) = posted.given(field) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Invalid::new(field, format!("must be {what}")))
}

/// A link that fills the form in.
pub struct Start {
    pub name: Line,
    pub href: String,
}

/// A page of one form.
#[derive(Template)]
#[template(path = "form.html")]
pub struct FormPage {
    pub frame: Frame,
    pub title: Line,
    /// What it is about, below the title.
    pub lead: &'static str,
    /// A name that the form is about, beside the title; empty: none.
    pub about: Line,
    pub action: String,
    pub form: Form,
    /// What the form can be filled with, above it: links back to itself.
    pub starts: Vec<Start>,
    pub button: &'static str,
    /// Where to go instead.
    pub back: String,
}

impl FormPage {
    /// The page: 422 if something in it was refused.
    ///
    /// # Errors
    /// The template cannot be written.
    pub fn answer(&self) -> Result<HttpResponse, PageError> {
        let status = if self.form.refused() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
        answer(status, self)
    }
}

/// A page that asks before something that cannot be undone.
#[derive(Template)]
#[template(path = "confirm.html")]
pub struct ConfirmPage {
    pub frame: Frame,
    pub title: &'static str,
    pub about: Line,
    /// What will be so afterwards.
    pub consequences: Vec<String>,
    pub action: String,
    pub button: String,
    pub back: String,
}

#[cfg(test)]
mod tests {
    use crate::dashboard::components::form::*;

    #[test]
    fn each_reason_stands_at_its_field_and_above() {
        let fields =
            vec![Field::text("url", "URL", "x"), Field::number("throttleRate", "Rate", None, 1, 9).help("A second.")];
        let wrong = [
            Invalid::new("url", "is <no> URL"),
            Invalid::new("throttleRate", "too much"),
            Invalid::new("other", "odd"),
        ];
        let form = Form::new(fields).blame(&wrong);
        let html = form.fields[1].to_string();
        assert!(
            html.contains("aria-describedby=\"throttleRate-help throttleRate-wrong\"") && html.contains("aria-invalid")
        );
        let summary = form.summary().to_string();
        assert!(summary.contains("href=\"#f-url\"") && summary.contains("is &#60;no&#62; URL"), "{summary}");
        assert!(summary.contains("other: odd"), "{summary}");
        assert!(form.refused() && !Form::default().refused());
        assert_eq!(Form::default().summary().to_string().trim(), "");
    }

    #[test]
    fn a_list_is_read_by_lines() {
        assert_eq!(lines(" a \r\n\r\n b\n"), ["a", "b"]);
    }
}
