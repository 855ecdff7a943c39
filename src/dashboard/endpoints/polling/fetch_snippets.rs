//! Code that fetches from a polling endpoint, by language. The files are in `snippets/` with a placeholder for the URL;
//! `tests/sdk/polling_snippets.rs` runs them.

use url::Url;

use crate::domain::catalog::application::Application;
use crate::domain::catalog::polling::PollingEndpoint;

/// The placeholder.
const PLACEHOLDER: &str = "https://hooks.example.com/api/v1/app/acme/poller/warehouse";

/// The code for one language.
pub struct FetchSnippet {
    /// Its value in the URL.
    pub word: &'static str,
    pub name: &'static str,
    code: &'static str,
}

impl FetchSnippet {
    /// The code with the polling endpoint's URL.
    pub fn code(&self, url: &str) -> String {
        self.code.replace(PLACEHOLDER, url)
    }
}

macro_rules! snippet {
    ($word:literal, $name:literal, $file:literal) => {
        FetchSnippet { word: $word, name: $name, code: include_str!(concat!("../../../../snippets/", $file)) }
    };
}

/// All languages; the first is the default.
pub static ALL: [FetchSnippet; 6] = [
    snippet!("curl", "curl", "poll.sh"),
    snippet!("python", "Python", "poll.py"),
    snippet!("javascript", "JavaScript", "poll.mjs"),
    snippet!("go", "Go", "poll.go"),
    snippet!("ruby", "Ruby", "poll.rb"),
    snippet!("php", "PHP", "poll.php"),
];

/// The language with this value.
pub fn of(word: Option<&str>) -> &'static FetchSnippet {
    word.and_then(|word| ALL.iter().find(|one| one.word == word)).unwrap_or(&ALL[0])
}

/// The polling endpoint's API URL.
pub fn url(public: &Url, app: &Application, endpoint: &PollingEndpoint) -> String {
    let base = public.as_str().trim_end_matches('/');
    format!("{base}/api/v1/app/{}/poller/{}", app.id, crate::dashboard::endpoints::polling::name_of(endpoint))
}

#[cfg(test)]
mod tests {
    use crate::dashboard::endpoints::polling::fetch_snippets::*;

    #[test]
    fn every_snippet_has_the_placeholder() {
        for snippet in &ALL {
            assert!(
                snippet.code("https://x.example/poller/1").contains("https://x.example/poller/1"),
                "{}",
                snippet.name
            );
            assert!(!snippet.code("https://x.example/poller/1").contains(PLACEHOLDER));
        }
        assert_eq!((of(Some("python")).word, of(Some("cobol")).word, of(None).word), ("python", "curl", "curl"));
    }
}
