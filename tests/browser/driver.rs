//! Debian's Chromium, by its chromedriver. Each [`Browser`] is a session with an empty profile, of one width, with JavaScript or without.

use std::ops::Deref;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};
use thirtyfour::prelude::*;

use crate::support::{SOON, eventually_blocking, free_port};

/// A phone and a wide screen.
pub const WIDTHS: [u32; 2] = [390, 1_440];
/// Those and what is between and beyond them.
pub const ALL_WIDTHS: [u32; 4] = [390, 768, 1_440, 2_200];

/// The driver, for as long as the test binary runs.
struct Driver {
    port: u16,
}

static DRIVER: OnceLock<Driver> = OnceLock::new();

fn driver() -> &'static Driver {
    DRIVER.get_or_init(|| {
        let port = free_port();
        let missing =
            "is missing. On Debian or Ubuntu: sudo apt-get install chromium chromium-driver (`make need-chromium`)";
        let run = |name: &str| Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(run("chromium").is_ok_and(|status| status.success()), "Chromium {missing}");
        // It is to end with us, and `pdeathsig` means the thread that began it: one that lasts as long as we do.
        std::thread::spawn(move || {
            let mut child = Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "chromedriver", &format!("--port={port}")])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap_or_else(|error| panic!("chromedriver {missing}: {error}"));
            let _ = child.wait();
        });
        eventually_blocking("chromedriver listens", SOON, || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Driver { port }
    })
}

/// How a browser is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub width: u32,
    pub javascript: bool,
    pub dark: bool,
}

impl Kind {
    pub const WIDE: Kind = Kind { width: WIDTHS[1], javascript: true, dark: false };

    pub fn of_width(width: u32) -> Kind {
        Kind { width, ..Kind::WIDE }
    }
}

/// A browser with an empty profile.
pub struct Browser {
    driver: WebDriver,
    session: String,
    client: reqwest::Client,
}

impl Deref for Browser {
    type Target = WebDriver;

    fn deref(&self) -> &WebDriver {
        &self.driver
    }
}

impl Browser {
    pub async fn open(kind: Kind) -> Browser {
        let mut wanted = DesiredCapabilities::chrome();
        for flag in [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--force-color-profile=srgb",
        ] {
            wanted.add_arg(flag).unwrap();
        }
        if !kind.javascript {
            let off = json!({"profile.managed_default_content_settings.javascript": 2});
            wanted.add_experimental_option("prefs", off).unwrap();
        }
        wanted.set("goog:loggingPrefs", json!({"browser": "ALL"})).unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = format!("http://127.0.0.1:{}", driver().port);
        let session_url = url.clone();
        let driver = WebDriver::new(url, wanted).await.expect("a browser");
        let session = format!("{session_url}/session/{}", driver.session_id());
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let browser = Browser { driver, session, client };
        browser.resize(kind.width).await;
        browser.dark(kind.dark).await;
        browser
    }

    /// Sets the width of the page, not of the window: a window is never narrower than 500 px.
    pub async fn resize(&self, width: u32) {
        self.resize_in(width, 1).await;
    }

    /// The same, with that many pixels of the picture per pixel of the page.
    pub async fn resize_in(&self, width: u32, scale: u32) {
        let size = json!({"width": width, "height": 1_000, "deviceScaleFactor": scale, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// The system's colours: dark, or light. They change at once, not by a transition.
    pub async fn dark(&self, dark: bool) {
        let scheme = json!({"name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" }});
        let still = json!({"name": "prefers-reduced-motion", "value": "reduce"});
        self.devtools("Emulation.setEmulatedMedia", json!({"features": [scheme, still]})).await;
    }

    /// A command of the DevTools protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.post("goog/cdp/execute", &json!({"cmd": command, "params": parameters})).await
    }

    /// What the console said since this was asked last: errors of scripts, refusals of the policy, what could not be loaded.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.post("se/log", &json!({"type": "browser"})).await;
        let entries = log.as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .filter(|entry| entry["level"] != "DEBUG")
            .map(|entry| entry["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}/{path}", self.session);
        let request = self.client.post(url).header("content-type", "application/json").body(body.to_string());
        let text = request.send().await.expect("the driver answers").text().await.expect("a text");
        let mut answer: Value = serde_json::from_str(&text).expect("JSON");
        answer["value"].take()
    }

    /// The result of an expression in the page.
    pub async fn eval(&self, expression: &str) -> Value {
        let done = self.driver.execute(&format!("return ({expression});"), Vec::new()).await;
        done.unwrap_or_else(|error| panic!("{expression}: {error}")).json().clone()
    }

    /// The element that is there, or will be soon.
    pub async fn element(&self, css: &str) -> WebElement {
        let start = std::time::Instant::now();
        loop {
            match self.driver.find(By::Css(css)).await {
                Ok(element) => return element,
                Err(error) if start.elapsed() > SOON => panic!("no {css}: {error}\n{}", self.text().await),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// All text of the page.
    pub async fn text(&self) -> String {
        self.eval("document.body.innerText").await.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page says so.
    pub async fn until_it_says(&self, words: &str) {
        let start = std::time::Instant::now();
        while !self.text().await.contains(words) {
            assert!(start.elapsed() < SOON, "the page does not say {words:?}:\n{}", self.text().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a page whose path matches is there with its scripts.
    pub async fn until_it_is_at(&self, path: &str) {
        let there = format!("RegExp({}).test(location.pathname) && document.readyState === 'complete'", json!(path));
        let start = std::time::Instant::now();
        while self.eval(&there).await != true {
            assert!(start.elapsed() < SOON, "this is not at {path}:\n{}", self.text().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Presses keys, one after another, wherever the focus is at each: the element that has it may go away by the one before.
    pub async fn keys(&self, keys: impl Into<TypingData>) {
        self.driver.action_chain().send_keys(keys).perform().await.expect("keys");
    }

    /// A picture of the page, at most so many pixels high.
    pub async fn picture(&self, most: u64) -> Vec<u8> {
        let height = self.eval("document.documentElement.scrollHeight").await.as_u64().unwrap_or(1_000).min(most);
        let width = self.eval("innerWidth").await.as_u64().unwrap_or(1_440);
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let shot = self.devtools("Page.captureScreenshot", json!({"clip": clip, "captureBeyondViewport": true})).await;
        use base64::Engine as _;
        let data = shot["data"].as_str().expect("a picture");
        base64::engine::general_purpose::STANDARD.decode(data).expect("base64")
    }

    pub async fn close(self) {
        self.driver.quit().await.expect("the browser ends");
    }
}
