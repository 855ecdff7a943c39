//! The snippets that a polling endpoint's page shows (`snippets/poll.*`) fetch every message, from the real binary.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::rest::{call, made, text_of};
use crate::support::{Binary, build, sqlite_file};

/// More than a page.
const MESSAGES: usize = 60;

/// A language: its program, its snippet, and what follows it to print the id of each message, up to the one in LAST.
const LANGUAGES: [(&str, &str, &str); 6] = [
    ("sh", "poll.sh", ""),
    (
        "python3",
        "poll.py",
        "\n\ndef show(message):\n    print(message['id'])\n    if message['id'] == os.environ['LAST']:\n        raise SystemExit\n\n\nrun(show)\n",
    ),
    (
        "node",
        "poll.mjs",
        "\nawait run((message) => {\n  console.log(message.id);\n  if (message.id === process.env.LAST) process.exit();\n});\n",
    ),
    (
        "ruby",
        "poll.rb",
        "\nrun do |message|\n  puts message[\"id\"]\n  exit if message[\"id\"] == ENV[\"LAST\"]\nend\n",
    ),
    (
        "php",
        "poll.php",
        "\nrun(function (array $message): void {\n    echo $message['id'], \"\\n\";\n    if ($message['id'] === getenv('LAST')) exit;\n});\n",
    ),
    (
        "go",
        "poll.go",
        "\nfunc main() {\n\tfmt.Println(Run(func(message Message) error {\n\t\tfmt.Println(message.ID)\n\
         \t\tif message.ID == os.Getenv(\"LAST\") {\n\t\t\tos.Exit(0)\n\t\t}\n\t\treturn nil\n\t}))\n\tos.Exit(1)\n}\n",
    ),
];

/// A program that runs for a minute at most: a snippet that reads the same page for ever fails.
fn bounded(program: &OsStr) -> Command {
    let mut command = Command::new("timeout");
    command.arg("60").arg(program);
    command
}

/// The snippet with this server's address and what follows it, ready to run.
fn program(folder: &Path, server: &str, (program, file, after): (&str, &str, &str)) -> Command {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("snippets").join(file);
    let code = fs::read_to_string(path).expect("a snippet");
    assert!(code.contains("https://hooks.example.com"), "{file}");
    // Each has a position of its own.
    let code = code.replace("https://hooks.example.com", server).replace("consumer/main", &format!("consumer/{file}"));
    let code = code.replace("package webhooks", "package main") + after;
    let source = folder.join(file);
    fs::write(&source, code).expect("a file");
    if program == "go" {
        let built = folder.join("poll");
        build::go(&source, &built);
        return bounded(built.as_os_str());
    }
    let mut command = bounded(program.as_ref());
    command.arg(source);
    command
}

#[test]
fn the_snippets_of_polling_endpoints_fetch_every_message_in_order() {
    let file = sqlite_file();
    let server = Binary::on(&file.url()).serve();
    let token = server.token();
    let by = (&server, &*token);
    made(by, "/app/", "{\"name\": \"Acme\", \"uid\": \"acme\"}");
    made(by, "/app/acme/destination", "{\"type\": \"pollingEndpoint\", \"uid\": \"warehouse\"}");
    let (_, rotated) = call(by, "POST", "/auth/app/acme/poller/warehouse/token/rotate", "{}");
    let (poller, wrong) = (text_of(&rotated, "token"), "sk_poll_wrong");
    let ids: Vec<String> = (0..MESSAGES)
        .map(|n| made(by, "/app/acme/msg/", &format!("{{\"eventType\": \"t\", \"payload\": {{\"n\": {n}}}}}")))
        .collect();
    let all = ids.iter().map(|id| format!("{id}\n")).collect::<String>();
    let folder = tempfile::tempdir().expect("a folder");
    for language in LANGUAGES {
        let file = language.1;
        let mut command = program(folder.path(), &server.url(), language);
        let mut run = |token: &str| -> Output {
            command
                .env("TOKEN", token)
                .env("LAST", &ids[MESSAGES - 1])
                .output()
                .unwrap_or_else(|e| panic!("{file}: {e}"))
        };
        let output = run(&poller);
        let said = String::from_utf8_lossy(&output.stdout);
        // The one for the shell fetches one page of 50.
        let whole = said == all || file == "poll.sh" && ids[..50].iter().all(|id| said.contains(id));
        assert!(output.status.success() && whole, "{file}: {output:?}");
        let output = run(wrong);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!said.contains(&ids[0]) && said.contains("401"), "{file}: {output:?}");
        assert!(!said.contains(wrong), "{file} shows the token: {output:?}");
    }
}
