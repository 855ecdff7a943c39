//! Code that verifies signatures (Standard Webhooks 1.0.0), by language. The files are in `snippets/`;
//! `tests/sdk/snippets.rs` runs them.

use crate::dashboard::components::format::Block;

/// The code for one language.
pub struct VerifySnippet {
    /// Its value in the URL.
    pub word: &'static str,
    pub name: &'static str,
    /// Its dependencies.
    pub needs: &'static str,
    code: &'static str,
}

impl VerifySnippet {
    /// The code for display.
    pub fn shown(&self) -> Block {
        Block::new(self.code.as_bytes())
    }
}

macro_rules! snippet {
    ($word:literal, $name:literal, $file:literal, $needs:literal) => {
        VerifySnippet {
            word: $word,
            name: $name,
            needs: $needs,
            code: include_str!(concat!("../../../snippets/", $file)),
        }
    };
}

/// All languages; the first is the default.
pub static ALL: [VerifySnippet; 9] = [
    snippet!("python", "Python", "verify.py", "Python 3.9 or newer, no dependencies."),
    snippet!("javascript", "JavaScript", "verify.mjs", "Node.js, no dependencies. Pass the raw body, before parsing."),
    snippet!("go", "Go", "verify.go", "Go's standard library."),
    snippet!("ruby", "Ruby", "verify.rb", "Ruby's standard library."),
    snippet!("php", "PHP", "verify.php", "PHP 8, no dependencies. The body is file_get_contents('php://input')."),
    snippet!("java", "Java", "Verify.java", "Java 11 or newer, no dependencies."),
    snippet!("csharp", "C#", "Verify.cs", ".NET 6 or newer, no dependencies."),
    snippet!("rust", "Rust", "verify.rs", "The crates base64, hmac 0.13 and sha2 0.11."),
    snippet!("openssl", "openssl", "verify.sh", "A shell and openssl, for manual checks."),
];

/// The language with this value.
pub fn of(word: Option<&str>) -> &'static VerifySnippet {
    word.and_then(|word| ALL.iter().find(|one| one.word == word)).unwrap_or(&ALL[0])
}
