//! The snippets that the dashboard shows do what they say: each accepts what Sendoff signed, and refuses what was altered, signed with
//! another secret, or is too old. Java runs where it is installed; nothing compiles C#.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

#[path = "../../snippets/verify.rs"]
mod verify;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const ID: &str = "msg_01jd8x5q3fe8ktq8b4m5rj2w3a";
const BODY: &str = "{\"größe\": 1.0,\n \"x\": \"$(a) 'b' \\\\\"}";

/// What arrives.
struct Case {
    name: &'static str,
    genuine: bool,
    secret: &'static str,
    timestamp: u64,
    signatures: String,
    body: &'static str,
}

fn signature(secret: &str, timestamp: u64, body: &str) -> String {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{ID}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

fn cases() -> Vec<Case> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let case = |name, genuine, secret, timestamp, signatures, body| Case {
        name,
        genuine,
        secret,
        timestamp,
        signatures,
        body,
    };
    let right = signature(SECRET, now, BODY);
    vec![
        case("right", true, SECRET, now, right.clone(), BODY),
        case("one of two", true, SECRET, now, format!("{} {right}", signature(OTHER, now, BODY)), BODY),
        case("altered", false, SECRET, now, right.clone(), "{}"),
        case("another secret", false, OTHER, now, right.clone(), BODY),
        case("another time", false, SECRET, now - 1, right.clone(), BODY),
        case("too old", false, SECRET, now - 600, signature(SECRET, now - 600, BODY), BODY),
        case("from the future", false, SECRET, now + 600, signature(SECRET, now + 600, BODY), BODY),
        case("another version", false, SECRET, now, right.replace("v1,", "v2,"), BODY),
        case("no signature", false, SECRET, now, "v1,".into(), BODY),
    ]
}

fn snippet(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("snippets").join(file)).unwrap()
}

/// A folder of this test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("sendoff-snippets-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn installed(program: &str, version: &str) -> bool {
    Command::new(program).arg(version).output().is_ok_and(|output| output.status.success())
}

/// Runs `command` for each case with what arrived in its environment and the body in the file `body`.
fn run(folder: &Folder, command: &[&str]) {
    for case in cases() {
        fs::write(folder.0.join("body"), case.body).unwrap();
        let output = Command::new(command[0])
            .args(&command[1..])
            .current_dir(&folder.0)
            .envs([("SECRET", case.secret), ("ID", ID), ("SIGNATURES", &case.signatures)])
            .env("TIMESTAMP", case.timestamp.to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), case.genuine, "{command:?}: {}: {said}", case.name);
    }
}

#[test]
fn python() {
    let folder = Folder::new("python");
    let driver = "
import os, sys
h = {'webhook-id': os.environ['ID'], 'webhook-timestamp': os.environ['TIMESTAMP'], 'webhook-signature': os.environ['SIGNATURES']}
try:
    verify(os.environ['SECRET'], h, open('body', 'rb').read())
except ValueError:
    sys.exit(1)
";
    fs::write(folder.0.join("main.py"), snippet("verify.py") + driver).unwrap();
    run(&folder, &["python3", "main.py"]);
}

/// The snippets for an endpoint's own headers: each accepts what was signed, and refuses what was altered, is signed with another
/// secret, or is too old.
#[test]
fn python_for_other_headers() {
    let hex = |secret: &str, signed: &[u8]| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(signed);
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let body = |secret: &str, signed: &str| format!("sha256={}", hex(secret, signed.as_bytes()));
    let timed = |secret: &str, at: u64| format!("t={at},v1={}", hex(secret, format!("{at}.{BODY}").as_bytes()));
    let v1 = timed(OTHER, now).split(',').nth(1).unwrap().to_owned();
    for (file, genuine, signature) in [
        ("verify_body.py", true, body(SECRET, BODY)),
        ("verify_body.py", false, body(OTHER, BODY)),
        ("verify_body.py", false, body(SECRET, "{}")),
        ("verify_body.py", false, String::new()),
        ("verify_timed.py", true, timed(SECRET, now)),
        ("verify_timed.py", true, timed(SECRET, now).replacen(",v1", &format!(",{v1},v1"), 1)),
        ("verify_timed.py", false, timed(OTHER, now)),
        ("verify_timed.py", false, timed(SECRET, now - 600)),
        ("verify_timed.py", false, timed(SECRET, now - 1).replacen(&(now - 1).to_string(), &now.to_string(), 1)),
        ("verify_timed.py", false, format!("t={now}")),
    ] {
        let folder = Folder::new("python-other");
        let driver = "
import os, sys
try:
    verify(os.environ['SECRET'], {'x-signature': os.environ['SIGNATURE']}, open('body', 'rb').read())
except ValueError:
    sys.exit(1)
";
        fs::write(folder.0.join("main.py"), snippet(file) + driver).unwrap();
        fs::write(folder.0.join("body"), BODY).unwrap();
        let mut command = Command::new("python3");
        command.arg("main.py").current_dir(&folder.0).envs([("SECRET", SECRET), ("SIGNATURE", &signature)]);
        let output = command.output().unwrap();
        assert_eq!(output.status.success(), genuine, "{file} {signature}: {output:?}");
    }
}

#[test]
fn javascript() {
    let folder = Folder::new("javascript");
    let driver = "
import { readFileSync } from 'node:fs';
const { SECRET: secret, ID, TIMESTAMP, SIGNATURES } = process.env;
const headers = { 'webhook-id': ID, 'webhook-timestamp': TIMESTAMP, 'webhook-signature': SIGNATURES };
try { verify(secret, headers, readFileSync('body')); } catch { process.exit(1); }
";
    fs::write(folder.0.join("main.mjs"), snippet("verify.mjs") + driver).unwrap();
    run(&folder, &["node", "main.mjs"]);
}

#[test]
fn openssl() {
    let folder = Folder::new("openssl");
    let shell = snippet("verify.sh");
    let (head, rest) = shell.split_once("now=").unwrap();
    assert_eq!(head.matches('…').count(), 4, "four things to fill in");
    let filled = "secret=$SECRET id=$ID timestamp=$TIMESTAMP signatures=$SIGNATURES\nnow=";
    fs::write(folder.0.join("main.sh"), format!("{filled}{rest}")).unwrap();
    run(&folder, &["sh", "main.sh"]);
}

#[test]
fn rust() {
    assert!(verify::SECRET.starts_with("whsec_…"), "never a real one");
    for case in cases() {
        let done = verify::verify(case.secret, ID, &case.timestamp.to_string(), &case.signatures, case.body.as_bytes());
        assert_eq!(done.is_ok(), case.genuine, "{}: {done:?}", case.name);
    }
}

#[test]
fn java() {
    if !installed("java", "-version") {
        println!("NOT RUN: java is not installed");
        return;
    }
    let folder = Folder::new("java");
    let main = "
class Main {
    public static void main(String[] args) throws Exception {
        byte[] body = java.nio.file.Files.readAllBytes(java.nio.file.Path.of(\"body\"));
        Map<String, String> headers = Map.of(\"webhook-id\", System.getenv(\"ID\"), \"webhook-timestamp\",
            System.getenv(\"TIMESTAMP\"), \"webhook-signature\", System.getenv(\"SIGNATURES\"));
        Verify.verify(System.getenv(\"SECRET\"), headers, body);
    }
}
";
    // The launcher of single files runs the first class.
    let source = snippet("Verify.java").replacen("class Verify {", &format!("{main}\nclass Verify {{"), 1);
    fs::write(folder.0.join("Main.java"), source).unwrap();
    run(&folder, &["java", "Main.java"]);
}

#[test]
fn ruby() {
    let folder = Folder::new("ruby");
    let driver = "
begin
  verify(ENV['SECRET'], { 'webhook-id' => ENV['ID'], 'webhook-timestamp' => ENV['TIMESTAMP'],
    'webhook-signature' => ENV['SIGNATURES'] }, File.binread('body'))
rescue RuntimeError
  exit 1
end
";
    fs::write(folder.0.join("main.rb"), snippet("verify.rb") + driver).unwrap();
    run(&folder, &["ruby", "main.rb"]);
}

#[test]
fn php() {
    let folder = Folder::new("php");
    let driver = "
try {
    verify(getenv('SECRET'), ['webhook-id' => getenv('ID'), 'webhook-timestamp' => getenv('TIMESTAMP'),
        'webhook-signature' => getenv('SIGNATURES')], file_get_contents('body'));
} catch (RuntimeException) {
    exit(1);
}
";
    fs::write(folder.0.join("main.php"), snippet("verify.php") + driver).unwrap();
    run(&folder, &["php", "main.php"]);
}

#[test]
fn go() {
    let folder = Folder::new("go");
    let driver = "
func main() {
	body, _ := os.ReadFile(\"body\")
	header := http.Header{}
	header.Set(\"webhook-id\", os.Getenv(\"ID\"))
	header.Set(\"webhook-timestamp\", os.Getenv(\"TIMESTAMP\"))
	header.Set(\"webhook-signature\", os.Getenv(\"SIGNATURES\"))
	if Verify(os.Getenv(\"SECRET\"), header, body) != nil {
		os.Exit(1)
	}
}
";
    let source = snippet("verify.go")
        .replace("package webhooks", "package main")
        .replace("\t\"net/http\"\n", "\t\"net/http\"\n\t\"os\"\n")
        + driver;
    fs::write(folder.0.join("main.go"), source).unwrap();
    crate::support::build::go(&folder.0.join("main.go"), &folder.0.join("main"));
    run(&folder, &["./main"]);
}

#[test]
fn no_snippet_holds_a_secret() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("snippets");
    let mut seen = [0, 0];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        // Those that fetch read their token from the environment.
        let fetches = path.file_name().unwrap().to_string_lossy().starts_with("poll.");
        assert_eq!(text.matches("whsec_…").count(), usize::from(!fetches), "{text}");
        assert_eq!(text.matches("sk_poll_…").count(), usize::from(fetches), "{text}");
        assert_eq!(text.matches("sk_poll_").count(), usize::from(fetches), "{text}");
        seen[usize::from(fetches)] += 1;
    }
    assert_eq!(seen, [11, 6]);
}
