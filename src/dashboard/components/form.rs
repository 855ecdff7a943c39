//! Forms: controls with one look and one way to report errors.
//!
//! * [`FormField`] – a label, a control, a line of help and an error. It renders itself (`templates/parts/field.html`);
//!   a page writes `{{ form.summary() }}` and then its `form.fields`.
//! * [`Form`] – the fields in order. [`Form::filled`] restores submitted values, [`Form::with_errors`] puts each
//!   [`Invalid`] at the field that it names, so fields have the same names as in the REST API and the domain.
//! * [`FormPage`] – a page with one form. [`ConfirmPage`] – asks before an action that cannot be undone.
//!
//! A handler parses a [`VerifiedForm`] into a domain spec. If that fails, it responds with the same form and 422:
//! `page(form.filled(&submitted).with_errors(&wrong)).answer()`.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use askama::Template;
use askama::filters::HtmlSafe;

use crate::dashboard::components::format::{InputValue, Line};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::layout::{PageLayout, answer};
use crate::dashboard::http::verified_form::VerifiedForm;
use crate::domain::{Invalid, Time};

/// An option of a select or a checkbox group.
#[derive(Clone, Debug)]
pub struct SelectOption {
    pub value: InputValue,
    pub label: Line,
    pub chosen: bool,
}

impl SelectOption {
    pub fn new(value: &str, label: &str, chosen: bool) -> SelectOption {
        SelectOption { value: InputValue::new(value), label: Line::new(label), chosen }
    }
}

/// The control of a field.
#[derive(Clone, Debug)]
pub enum Control {
    /// A text input. `kind` is the HTML type (`text`, `url`, `email`, `password`), `offers` are suggestions.
    Text { kind: &'static str, offers: Vec<InputValue> },
    /// A whole number within bounds.
    Number { least: u64, most: u64 },
    /// A text area; `code` uses the monospace font.
    Area { rows: usize, code: bool },
    /// A select.
    Select(Vec<SelectOption>),
    /// A group of checkboxes.
    Ticks(Vec<SelectOption>),
    /// A checkbox; ticked if the value is not empty.
    Tick,
}

/// A labeled control.
#[derive(Clone, Debug, Template)]
#[template(path = "parts/field.html")]
pub struct FormField {
    pub name: &'static str,
    pub label: &'static str,
    /// The help below the control; empty: none.
    pub help: &'static str,
    pub value: InputValue,
    pub control: Control,
    pub required: bool,
    /// Shown below *Advanced*, which is closed at first.
    pub advanced: bool,
    /// The validation error.
    pub wrong: Option<Line>,
}

impl HtmlSafe for FormField {}

impl FormField {
    fn new(name: &'static str, label: &'static str, value: &str, control: Control) -> FormField {
        let value = InputValue::new(value);
        FormField { name, label, help: "", value, control, required: false, advanced: false, wrong: None }
    }

    /// A text input.
    pub fn text(name: &'static str, label: &'static str, value: &str) -> FormField {
        FormField::new(name, label, value, Control::Text { kind: "text", offers: Vec::new() })
    }

    /// A number input; empty means `None`.
    pub fn number(name: &'static str, label: &'static str, value: Option<u64>, least: u64, most: u64) -> FormField {
        let value = value.map(|value| value.to_string()).unwrap_or_default();
        FormField::new(name, label, &value, Control::Number { least, most })
    }

    /// A text area.
    pub fn area(name: &'static str, label: &'static str, value: &str, rows: usize) -> FormField {
        FormField::new(name, label, value, Control::Area { rows, code: false })
    }

    /// A monospace text area, for JSON.
    pub fn code(name: &'static str, label: &'static str, value: &str, rows: usize) -> FormField {
        FormField::new(name, label, value, Control::Area { rows, code: true })
    }

    /// A text area with one entry per line, parsed by [`lines`].
    pub fn lines<'l>(name: &'static str, label: &'static str, list: impl IntoIterator<Item = &'l String>) -> FormField {
        let list: Vec<&str> = list.into_iter().map(String::as_str).collect();
        FormField::new(name, label, &list.join("\n"), Control::Area { rows: list.len().clamp(2, 8), code: true })
    }

    pub fn select(name: &'static str, label: &'static str, choices: Vec<SelectOption>) -> FormField {
        FormField::new(name, label, "", Control::Select(choices))
    }

    pub fn ticks(name: &'static str, label: &'static str, choices: Vec<SelectOption>) -> FormField {
        FormField::new(name, label, "", Control::Ticks(choices))
    }

    pub fn tick(name: &'static str, label: &'static str, ticked: bool) -> FormField {
        FormField::new(name, label, if ticked { "on" } else { "" }, Control::Tick)
    }

    /// Sets the help.
    pub fn help(self, help: &'static str) -> FormField {
        FormField { help, ..self }
    }

    pub fn required(self) -> FormField {
        FormField { required: true, ..self }
    }

    /// Moves the field below *Advanced*.
    pub fn advanced(self) -> FormField {
        FormField { advanced: true, ..self }
    }

    /// Sets the HTML type of a text input.
    pub fn kind(self, kind: &'static str) -> FormField {
        match self.control {
            Control::Text { offers, .. } => FormField { control: Control::Text { kind, offers }, ..self },
            _ => self,
        }
    }

    /// Sets the suggestions of a text input.
    pub fn offering<'o>(self, offers: impl IntoIterator<Item = &'o str>) -> FormField {
        match self.control {
            Control::Text { kind, .. } => {
                let offers = offers.into_iter().map(InputValue::new).collect();
                FormField { control: Control::Text { kind, offers }, ..self }
            }
            _ => self,
        }
    }

    fn fill(&mut self, submitted: &VerifiedForm) {
        match &mut self.control {
            Control::Select(choices) | Control::Ticks(choices) => {
                for choice in choices {
                    choice.chosen = submitted.all(self.name).any(|value| value == choice.value.as_str());
                }
            }
            Control::Tick => self.value = InputValue::new(if submitted.has(self.name) { "on" } else { "" }),
            _ => self.value = InputValue::new(submitted.get(self.name)),
        }
    }

    /// The value of `aria-describedby`: help and error, if present.
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

/// The hidden field with the revision that the form was filled in on.
pub const REVISION: &str = "seen";

/// A form.
#[derive(Clone, Debug, Default)]
pub struct Form {
    pub fields: Vec<FormField>,
    /// The revision of the edited object; empty for a new one.
    pub revision: String,
    /// Errors that belong to no field.
    pub elsewhere: Vec<Line>,
}

/// The errors of a rejected form, with links to their fields.
#[derive(Template)]
#[template(path = "parts/error_summary.html")]
pub struct ErrorSummary<'f> {
    wrong: Vec<(&'f FormField, &'f Line)>,
    elsewhere: &'f [Line],
}

impl HtmlSafe for ErrorSummary<'_> {}

impl Form {
    pub fn new(fields: Vec<FormField>) -> Form {
        Form { fields, revision: String::new(), elsewhere: Vec::new() }
    }

    /// Binds the form to the revision of the edited object.
    pub fn at_revision(self, updated_at: Time) -> Form {
        Form { revision: crate::dashboard::components::form_errors::revision(updated_at), ..self }
    }

    /// Restores the submitted values.
    pub fn filled(mut self, submitted: &VerifiedForm) -> Form {
        self.fields.iter_mut().for_each(|field| field.fill(submitted));
        self
    }

    /// Puts each error at its field.
    pub fn with_errors(mut self, wrong: &[Invalid]) -> Form {
        for one in wrong {
            match self.fields.iter_mut().find(|field| field.name == one.field) {
                Some(field) if field.wrong.is_none() => field.wrong = Some(Line::new(&one.reason)),
                Some(_) => {}
                None => self.elsewhere.push(Line::new(&one.to_string())),
            }
        }
        self
    }

    /// The list of errors.
    pub fn summary(&self) -> ErrorSummary<'_> {
        let wrong = self.fields.iter().filter_map(|field| Some((field, field.wrong.as_ref()?))).collect();
        ErrorSummary { wrong, elsewhere: &self.elsewhere }
    }

    /// The fields that are always shown.
    pub fn basic(&self) -> impl Iterator<Item = &FormField> {
        self.fields.iter().filter(|field| !field.advanced)
    }

    /// The fields below *Advanced*.
    pub fn advanced(&self) -> Vec<&FormField> {
        self.fields.iter().filter(|field| field.advanced).collect()
    }

    /// Whether *Advanced* is open: a field there has an error.
    pub fn opens_advanced(&self) -> bool {
        self.fields.iter().any(|field| field.advanced && field.wrong.is_some())
    }

    fn refused(&self) -> bool {
        !self.elsewhere.is_empty() || self.fields.iter().any(|field| field.wrong.is_some())
    }
}

/// Parses one entry per line, skipping empty lines.
pub fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Parses a whole number; `None` if empty.
///
/// # Errors
/// Not a whole number, or out of range for `N`.
pub fn number<N: std::str::FromStr>(submitted: &VerifiedForm, field: &str, what: &str) -> Result<Option<N>, Invalid> {
    let Some(text) = submitted.given(field) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Invalid::new(field, format!("must be {what}")))
}

/// A link that prefills the form.
pub struct ExampleLink {
    pub name: Line,
    pub href: String,
}

/// A page with one form.
#[derive(Template)]
#[template(path = "form.html")]
pub struct FormPage {
    pub layout: PageLayout,
    pub title: Line,
    /// The line below the title.
    pub lead: &'static str,
    /// The name of the edited object, beside the title; empty: none.
    pub about: Line,
    /// Consequences, as a list below the lead.
    pub notes: Vec<Line>,
    pub action: String,
    pub form: Form,
    /// Links that prefill the form.
    pub examples: Vec<ExampleLink>,
    pub button: &'static str,
    /// The target of *Cancel*.
    pub back: String,
}

impl FormPage {
    /// A page whose form posts to `action` with `button`; *Cancel* leads `back`.
    pub fn new(
        layout: PageLayout,
        title: &str,
        form: Form,
        (action, button): (String, &'static str),
        back: String,
    ) -> FormPage {
        let (title, about) = (Line::new(title), Line::default());
        let (notes, examples) = (Vec::new(), Vec::new());
        FormPage { layout, title, lead: "", about, notes, action, form, examples, button, back }
    }

    /// A page that creates an object of `list`: its form posts to `{list}/new`, and *Cancel* leads back to the list.
    pub fn for_new(layout: PageLayout, title: &str, form: Form, button: &'static str, list: String) -> FormPage {
        FormPage::new(layout, title, form, (format!("{list}/new"), button), list)
    }

    /// Adds the line below the title.
    pub fn lead(self, lead: &'static str) -> FormPage {
        FormPage { lead, ..self }
    }

    /// Adds a list of consequences below the lead.
    pub fn notes(self, notes: Vec<Line>) -> FormPage {
        FormPage { notes, ..self }
    }

    /// Adds the name of the edited object.
    pub fn about(self, about: Line) -> FormPage {
        FormPage { about, ..self }
    }

    /// Renders the page, with 422 if there are errors.
    ///
    /// # Errors
    /// The template fails.
    pub fn answer(&self) -> Result<HttpResponse, PageError> {
        let status = if self.form.refused() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
        answer(status, self)
    }
}

/// Asks before an action that cannot be undone.
#[derive(Template)]
#[template(path = "confirm.html")]
pub struct ConfirmPage {
    pub layout: PageLayout,
    pub title: &'static str,
    pub about: Line,
    /// The effects of the action.
    pub consequences: Vec<String>,
    pub action: String,
    pub button: String,
    pub back: String,
}

#[cfg(test)]
mod tests {
    use crate::dashboard::components::form::*;

    #[test]
    fn errors_appear_at_fields_and_in_the_summary() {
        let fields = vec![
            FormField::text("url", "URL", "x"),
            FormField::number("throttleRate", "Rate", None, 1, 9).help("A second."),
        ];
        let wrong = [
            Invalid::new("url", "is <no> URL"),
            Invalid::new("throttleRate", "too much"),
            Invalid::new("other", "odd"),
        ];
        let form = Form::new(fields).with_errors(&wrong);
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
    fn lines_skip_empty_entries() {
        assert_eq!(lines(" a \r\n\r\n b\n"), ["a", "b"]);
    }
}
