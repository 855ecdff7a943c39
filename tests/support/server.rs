//! The real `sendoff` binary as a child of the test: a command that is run to its end, or a server that is started, asked,
//! drained by SIGTERM or killed. It knows the command line and the settings, and nothing of the inside.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;

use super::{SOON, eventually_blocking, free_port};

/// Signs the tokens of every server of the suite.
pub const JWT_SECRET: &str = "a secret of the test suite, long enough for HS256";
/// 32 bytes in base64.
pub const MASTER_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// How the binary is called: its settings and its folder. Cheap to change before each start.
pub struct Binary {
    program: PathBuf,
    settings: Vec<(String, String)>,
    folder: TempDir,
    prints: Prints,
}

/// Where a server's standard output and standard error lead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prints {
    /// Into [`Server::output`].
    #[default]
    Collected,
    /// Into a pipe whose reader has gone.
    Unheard,
    /// Into a pipe that is full, and nobody reads it.
    Blocked,
    /// To a device that is always full.
    Refused,
}

impl Prints {
    /// One of the two ends that the server writes to, and what has to stay open meanwhile.
    fn made(self) -> (Stdio, Option<PipeReader>) {
        if self == Prints::Refused {
            return (File::options().write(true).open("/dev/full").expect("a device of the system").into(), None);
        }
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        match self {
            Prints::Unheard => (writer.into(), None),
            Prints::Blocked => {
                rustix::io::ioctl_fionbio(&writer, true).expect("a pipe that does not block");
                while writer.write(&[b'.'; 512]).is_ok() {}
                rustix::io::ioctl_fionbio(&writer, false).expect("a pipe that blocks");
                (writer.into(), Some(reader))
            }
            Prints::Collected | Prints::Refused => (Stdio::piped(), None),
        }
    }
}

/// What a command left behind.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// The one line that a command which did not work has said.
pub fn complaint(finished: &Finished, code: i32) -> String {
    assert_eq!(finished.status.code(), Some(code), "{finished:?}");
    assert_eq!(finished.stdout, "", "nothing on standard output");
    assert_eq!(finished.stderr.lines().count(), 1, "one line: {finished:?}");
    let line = finished.stderr.trim_end();
    line.strip_prefix("sendoff: ").unwrap_or_else(|| panic!("begins with the program's name: {line}")).to_owned()
}

/// The program as it was built for this test.
fn built() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_sendoff"))
}

impl Binary {
    /// On this store, with the suite's keys, and with loopback opened for the suite's receivers.
    pub fn on(database_url: &str) -> Binary {
        let folder = TempDir::with_prefix("sendoff-server-").expect("a temporary folder");
        Binary { program: built(), settings: Vec::new(), folder, prints: Prints::default() }
            .set("SENDOFF_DATABASE_URL", database_url)
            .set("SENDOFF_JWT_SECRET", JWT_SECRET)
            .set("SENDOFF_MASTER_KEY", MASTER_KEY)
            .set("SENDOFF_EGRESS_ALLOW", "127.0.0.1/32")
    }

    /// Another build of the program.
    pub fn program(mut self, path: &Path) -> Binary {
        self.program = path.to_owned();
        self
    }

    /// Whose standard output and standard error lead there when it serves.
    pub fn prints(mut self, prints: Prints) -> Binary {
        self.prints = prints;
        self
    }

    /// With this setting too, in place of what it was.
    pub fn set(mut self, name: &str, value: &str) -> Binary {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without this setting.
    pub fn unset(mut self, name: &str) -> Binary {
        self.settings.retain(|(known, _)| known != name);
        self
    }

    /// Where it is run: relative paths in its settings start here.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Nothing of the caller's environment but the PATH, so that a developer's own settings change no test.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(self.folder.path()).env_clear().stdin(Stdio::null());
        for name in ["PATH", "TMPDIR", "RUST_BACKTRACE", "LLVM_PROFILE_FILE"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.run_with_input(arguments, b"")
    }

    /// Runs it to its end, with `input` on standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Finished {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        // Whoever does not read it has closed it: no failure.
        let _ = child.stdin.take().expect("piped").write_all(input);
        let output = child.wait_with_output().expect("the binary ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Finished { status: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// A bearer token for the default organization: what `sendoff token` prints.
    pub fn token(&self) -> String {
        let finished = self.run(&["token"]);
        assert!(finished.status.success(), "sendoff token: {finished:?}");
        finished.stdout.trim().to_owned()
    }

    /// Starts `sendoff serve` and waits until `/healthz` answers.
    pub fn serve(self) -> Server {
        self.start(&["serve"])
    }

    /// Starts `sendoff serve` without waiting: it may end before it answers anybody.
    pub fn launch(self) -> Server {
        Server::launch(self, &["serve"])
    }

    /// Starts `sendoff serve` at this address, such as that of a server before.
    pub fn start_at(self, address: &str) -> Server {
        let (_, port) = address.rsplit_once(':').expect("a port");
        Server::start_on(self, port.parse().expect("a port"))
    }

    /// Starts a command that goes on until it is ended, without waiting for anything.
    pub fn begin(self, arguments: &[&str]) -> Server {
        Server::launch(self, arguments)
    }

    /// Starts a command that listens (`serve`, `demo`), with these arguments.
    pub fn start(self, arguments: &[&str]) -> Server {
        let mut binary = self;
        // Another process may take the port between our look and its bind.
        for _ in 0..2 {
            match Server::try_start(binary, arguments) {
                Ok(server) => return server,
                Err((failed, output)) if output.to_lowercase().contains("in use") => binary = failed,
                Err((_, output)) => panic!("sendoff {arguments:?} ended before it was ready:\n{output}"),
            }
        }
        Server::try_start(binary, arguments).unwrap_or_else(|(_, output)| panic!("no port was free:\n{output}"))
    }
}

/// A running server. Killed when dropped, and its output printed if the test is failing.
pub struct Server {
    child: Child,
    binary: Binary,
    port: u16,
    output: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    _unread: Vec<Option<PipeReader>>,
}

impl Server {
    fn start_on(binary: Binary, port: u16) -> Server {
        let mut server = Server::launch_on(binary, &["serve"], port);
        eventually_blocking("/healthz of a server that is back", SOON, || {
            assert!(server.exited().is_none(), "sendoff serve ended:\n{}", server.output());
            server.get_status("/healthz").filter(|status| status / 100 == 2)
        });
        server
    }

    fn launch(binary: Binary, arguments: &[&str]) -> Server {
        Server::launch_on(binary, arguments, free_port())
    }

    fn launch_on(binary: Binary, arguments: &[&str], port: u16) -> Server {
        let binary = binary.set("SENDOFF_LISTEN", &format!("127.0.0.1:{port}"));
        let mut command = binary.command(arguments);
        let ((stdout, unread), (stderr, too)) = (binary.prints.made(), binary.prints.made());
        let mut child = command.stdout(stdout).stderr(stderr).spawn().expect("the binary runs");
        let output = Arc::new(Mutex::new(String::new()));
        let stdout = child.stdout.take().map(|stream| collect(stream, Arc::clone(&output)));
        let stderr = child.stderr.take().map(|stream| collect(stream, Arc::clone(&output)));
        let readers = [stdout, stderr].into_iter().flatten().collect();
        Server { child, binary, port, output, readers, _unread: vec![unread, too] }
    }

    fn try_start(binary: Binary, arguments: &[&str]) -> Result<Server, (Binary, String)> {
        let mut server = Server::launch(binary, arguments);
        let ready = eventually_blocking("/healthz of a new server", SOON, || match server.exited() {
            Some(_) => Some(false),
            None => server.get_status("/healthz").filter(|status| status / 100 == 2).map(|_| true),
        });
        if ready { Ok(server) } else { Err(server.take_apart()) }
    }

    fn take_apart(mut self) -> (Binary, String) {
        self.finish_reading();
        let output = self.output();
        let folder = TempDir::new().expect("a temporary folder");
        let empty = Binary { program: built(), settings: Vec::new(), folder, prints: Prints::default() };
        (std::mem::replace(&mut self.binary, empty), output)
    }

    /// Its address, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn token(&self) -> String {
        self.binary.token()
    }

    /// Its settings and folder, to run other commands on the same store.
    pub fn binary(&self) -> &Binary {
        &self.binary
    }

    /// All it printed so far, standard output and error as they came.
    pub fn output(&self) -> String {
        self.output.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// How it ended, if it did.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours")
    }

    /// The status of a plain GET; `None` while nobody answers.
    pub fn get_status(&self, path: &str) -> Option<u16> {
        self.answer(path)?.split_whitespace().nth(1)?.parse().ok()
    }

    /// All that is answered to a plain GET.
    fn answer(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nconnection: close\r\n\r\n", self.port).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// The text behind a path that is open to all. (Everything else a test asks with a client of its own.)
    pub fn get(&self, path: &str) -> String {
        let answer = self.answer(path).unwrap_or_else(|| panic!("nobody answers GET {path}"));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        assert!(head.starts_with("HTTP/1.1 200 "), "GET {path}: {head}");
        body.to_owned()
    }

    /// Sends SIGTERM and returns at once.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal by its name, e.g. `STOP` or `CONT`.
    pub fn signal(&self, name: &str) {
        let order = format!("kill -{name} {}", self.pid());
        let status = Command::new("sh").args(["-c", &order]).status().expect("a shell");
        assert!(status.success(), "{order}");
    }

    /// Waits until it has ended by itself; gives how, and everything it printed.
    pub fn wait(mut self, within: Duration) -> (ExitStatus, String) {
        let status = eventually_blocking("the server's end", within, || self.exited());
        self.finish_reading();
        (status, self.output())
    }

    /// Ends it without a word, as a power cut would, and gives its settings back for the next start.
    pub fn kill(mut self) -> Binary {
        self.end();
        self.take_apart().0
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn finish_reading(&mut self) {
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
        self.finish_reading();
        if std::thread::panicking() {
            eprintln!("--- output of sendoff ({}) ---\n{}--- end of output ---", self.url(), self.output());
        }
    }
}

fn collect(stream: impl Read + Send + 'static, output: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let mut output = output.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            output.push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}
