//! A MariaDB for the suite: a data folder in a temporary folder, on a free loopback port. The server ends with the thread
//! that started it, also if the test binary is killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{SOON, eventually_blocking, free_port};

/// A running MariaDB with an empty database `shop`.
pub struct MariaDb {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl MariaDb {
    pub fn start() -> MariaDb {
        let server = find("mariadbd");
        let folder = TempDir::with_prefix("sendoff-mariadb-").expect("a temporary folder");
        let data = folder.path().join("data");
        let log = folder.path().join("log.err");
        let setup = Command::new(find("mariadb-install-db"))
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--user=root"])
            .arg(format!("--datadir={}", data.display()))
            // Its default is shared by all installations.
            .env("TMPDIR", folder.path())
            .output()
            .expect("mariadb-install-db runs");
        assert!(setup.status.success(), "{}", String::from_utf8_lossy(&setup.stderr));
        let port = free_port();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(server)
            .args(["--no-defaults", "--user=root", "--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=0"])
            .args(["--innodb-buffer-pool-size=32M", "--performance-schema=OFF"])
            .arg(format!("--tmpdir={}", folder.path().display()))
            .arg(format!("--port={port}"))
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", folder.path().join("socket").display()))
            .arg(format!("--log-error={}", log.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("MariaDB starts");
        eventually_blocking("MariaDB", SOON, || {
            std::fs::read_to_string(&log).ok().filter(|text| text.contains("ready for connections")).map(drop)
        });
        MariaDb { child, port, _folder: folder }
    }

    /// The URL of a database, for a user without a password.
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("mysql://{user}@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of MariaDB, which Debian puts where ordinary users do not look.
fn find(name: &str) -> PathBuf {
    ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{name} is missing. On Debian: apt-get install mariadb-server (or run `make test`)"))
}
