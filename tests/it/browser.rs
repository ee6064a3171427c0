//! A real chromium without a window, driven over its DevTools protocol: what the page shows, what it logs, and which
//! addresses it asks for.

use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use super::dispatched::{PATIENCE, eventually};

/// Names that chromium is installed under.
const PROGRAMS: [&str; 2] = ["chromium", "chromium-browser"];

/// So that it asks nobody for anything but the page.
const FLAGS: [&str; 10] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
];

/// An open page. The browser ends with it.
pub struct Browser {
    _process: Process,
    socket: WebSocket<TcpStream>,
    /// The page, once attached to.
    session: Option<String>,
    next_id: u64,
    events: Vec<Value>,
    _profile: TempDir,
}

impl Browser {
    /// Opens a blank page of `width` x `height`; `None`, loudly and with a count, where there is no chromium.
    pub fn open(test: &str, width: u32, height: u32) -> Option<Browser> {
        static SKIPPED: AtomicUsize = AtomicUsize::new(0);
        let Some(program) = find_program() else {
            let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
            // Not by `eprintln`: the test runner would keep that to itself.
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED {test}: chromium is not installed ({count} so far)"
            );
            return None;
        };
        let profile = TempDir::new().unwrap();
        let process = Command::new(program)
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("--window-size={width},{height}"))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = Process(process.unwrap());
        let socket = connect(profile.path());
        let mut browser = Browser {
            _process: process,
            socket,
            session: None,
            next_id: 0,
            events: Vec::new(),
            _profile: profile,
        };
        browser.attach();
        for domain in ["Runtime", "Log", "Network", "Page"] {
            browser.command(&format!("{domain}.enable"), json!({}));
        }
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700});
        browser.command("Emulation.setDeviceMetricsOverride", metrics);
        Some(browser)
    }

    pub fn go(&mut self, url: &str) {
        self.command("Page.navigate", json!({ "url": url }));
    }

    pub fn dark(&mut self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
        self.command("Emulation.setEmulatedMedia", features);
    }

    /// The value of a JavaScript expression.
    pub fn value(&mut self, expression: &str) -> Value {
        let options =
            json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.command("Runtime.evaluate", options);
        assert!(
            answer.get("exceptionDetails").is_none(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub fn wait_for(&mut self, expression: &str) {
        let give_up = Instant::now() + PATIENCE;
        while self.value(expression) != true {
            if Instant::now() > give_up {
                panic!(
                    "waited in vain: {expression}; the page logged {:?}",
                    self.complaints()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Presses and releases a key.
    pub fn press(&mut self, key: &str) {
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            _ => 0,
        };
        let mut down = json!({"type": "keyDown", "key": key, "windowsVirtualKeyCode": code});
        if key.len() == 1 {
            down["text"] = key.into();
        }
        self.command("Input.dispatchKeyEvent", down);
        self.command(
            "Input.dispatchKeyEvent",
            json!({"type": "keyUp", "key": key}),
        );
    }

    /// Types text.
    pub fn type_text(&mut self, text: &str) {
        text.chars().for_each(|c| self.press(&c.to_string()));
    }

    /// Errors and warnings that the page logged, and exceptions that nobody caught.
    pub fn complaints(&mut self) -> Vec<String> {
        let is_complaint = |event: &&Value| {
            let params = &event["params"];
            let level = match event["method"].as_str().unwrap_or("") {
                "Runtime.exceptionThrown" => "error",
                "Runtime.consoleAPICalled" => params["type"].as_str().unwrap_or(""),
                "Log.entryAdded" => params["entry"]["level"].as_str().unwrap_or(""),
                _ => "",
            };
            matches!(level, "error" | "warning" | "assert")
        };
        let complaints = self.events.iter().filter(is_complaint);
        complaints
            .map(|event| event["params"].to_string())
            .collect()
    }

    /// Every address that the page asked for.
    pub fn requests(&self) -> Vec<String> {
        let url = |event: &Value| {
            let params = &event["params"];
            match event["method"].as_str()? {
                "Network.requestWillBeSent" => params["request"]["url"].as_str().map(str::to_owned),
                "Network.webSocketCreated" => params["url"].as_str().map(str::to_owned),
                _ => None,
            }
        };
        self.events.iter().filter_map(url).collect()
    }

    /// Talks to the browser's one page from here on.
    fn attach(&mut self) {
        let mut page = None;
        eventually("the browser has a page", || {
            let targets = self.command("Target.getTargets", json!({}));
            let mut targets = targets["targetInfos"].as_array().unwrap().iter();
            page = targets.find(|target| target["type"] == "page").cloned();
            page.is_some()
        });
        let options = json!({"targetId": page.expect("waited for")["targetId"], "flatten": true});
        let session = self.command("Target.attachToTarget", options);
        self.session = session["sessionId"].as_str().map(str::to_owned);
    }

    fn command(&mut self, method: &str, params: Value) -> Value {
        self.next_id += 1;
        let mut message = json!({"id": self.next_id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.socket
            .send(Message::text(message.to_string()))
            .unwrap();
        loop {
            let Message::Text(text) = self.socket.read().unwrap() else {
                continue;
            };
            let mut answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == self.next_id {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].take();
            }
            self.events.push(answer);
        }
    }
}

/// The browser's process; ends however the test does.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn find_program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let candidates = PROGRAMS
        .iter()
        .flat_map(|program| folders.iter().map(move |folder| folder.join(program)));
    candidates.into_iter().find(|candidate| candidate.is_file())
}

/// Connects to the browser.
fn connect(profile: &Path) -> WebSocket<TcpStream> {
    let mut endpoint = None;
    eventually("the browser says where it listens", || {
        let text = std::fs::read_to_string(profile.join("DevToolsActivePort")).unwrap_or_default();
        let mut lines = text.lines().map(str::to_owned);
        endpoint = lines.next().zip(lines.next());
        endpoint.is_some()
    });
    let (port, path) = endpoint.expect("waited for");
    let stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let url = format!("ws://127.0.0.1:{port}{path}");
    tungstenite::client(url, stream).unwrap().0
}
