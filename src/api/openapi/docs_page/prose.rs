//! Descriptions as paragraphs. The only Markdown in them is paragraphs, `code` and **bold**.

/// A description.
pub(super) struct Prose(pub Vec<Vec<TextRun>>);

/// A run of text in one style.
pub(super) enum TextRun {
    Plain(String),
    Code(String),
    Bold(String),
}

impl Prose {
    pub fn of(text: &str) -> Prose {
        Prose(text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()).map(runs).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Code is taken literally; bold text contains no other markup.
fn runs(paragraph: &str) -> Vec<TextRun> {
    let mut runs = Vec::new();
    for (i, piece) in paragraph.split('`').enumerate() {
        if i % 2 == 1 {
            runs.push(TextRun::Code(piece.to_owned()));
            continue;
        }
        for (i, piece) in piece.split("**").enumerate().filter(|(_, piece)| !piece.is_empty()) {
            runs.push(if i % 2 == 1 {
                TextRun::Bold(piece.to_owned())
            } else {
                TextRun::Plain(piece.replace('\n', " "))
            });
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use crate::api::openapi::docs_page::prose::*;

    #[test]
    fn paragraphs_code_and_bold_are_parsed() {
        let prose = Prose::of("**A** list of `a*b**` and\nmore.\n\n\n\nLast");
        assert_eq!(prose.0.len(), 2);
        let shown = |run: &TextRun| match run {
            TextRun::Plain(text) => text.clone(),
            TextRun::Code(text) => format!("<{text}>"),
            TextRun::Bold(text) => format!("[{text}]"),
        };
        let first: Vec<String> = prose.0[0].iter().map(shown).collect();
        assert_eq!(first.concat(), "[A] list of <a*b**> and more.");
        assert!(Prose::of("").is_empty());
    }
}
