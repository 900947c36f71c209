//! A real browser without a screen: Chromium, driven over WebDriver.
//!
//! What a test sees of a page is what the browser makes of it. Scripts of the tests run past the page's own policy.

use super::http::ask;
use super::install::Loopback;
use super::run::{port, source_root};
use super::site::{Ended, started};
use super::wait::until;
use serde_json::{Value, json};

/// One browser with one page.
pub struct Browser {
    port: u16,
    session: String,
    _driver: Ended,
}

/// Chromium looks for nothing on the network of its own accord, and leaves nothing outside its folder.
const ARGUMENTS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
];

impl Browser {
    /// Starts one, with its files in the installation's folder.
    pub fn start(safe: &Loopback) -> Self {
        let port = port();
        let mut driver = safe.command("chromedriver");
        driver.arg(format!("--port={port}"));
        let mut this = Self { port, session: String::new(), _driver: started(driver) };
        until("chromedriver listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        let mut arguments: Vec<String> = ARGUMENTS.iter().map(ToString::to_string).collect();
        arguments.push(format!("--user-data-dir={}", safe.text("chromium")));
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"pageLoad": 200_000, "script": 200_000},
        }}});
        this.session = this.post("/session", &wanted)["sessionId"].as_str().unwrap().to_owned();
        this
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let answer = ask(self.port, "POST", path, &[("Content-Type", "application/json")], &body.to_string()).is(200);
        let mut value: Value = serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer}"));
        value["value"].take()
    }

    fn of_session(&self, path: &str, body: &Value) -> Value {
        self.post(&format!("/session/{}/{path}", self.session), body)
    }

    /// A command of Chromium's own protocol.
    pub fn command(&self, name: &str, parameters: &Value) -> Value {
        self.of_session("goog/cdp/execute", &json!({"cmd": name, "params": parameters}))
    }

    /// How wide the page is from now on, and whether the reader's system is dark.
    pub fn looks_as(&self, width: u32, dark: bool) {
        self.command(
            "Emulation.setDeviceMetricsOverride",
            &json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false}),
        );
        let scheme = if dark { "dark" } else { "light" };
        self.command("Emulation.setEmulatedMedia", &json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}));
    }

    /// Opens a page, and waits until it is there.
    pub fn open(&self, url: &str) {
        self.of_session("url", &json!({ "url": url }));
    }

    /// What an expression of a script is in the page; promises are waited for.
    #[track_caller]
    pub fn value(&self, expression: &str) -> Value {
        let mut given = self.command("Runtime.evaluate", &json!({"expression": expression, "awaitPromise": true, "returnByValue": true}));
        assert!(given["exceptionDetails"].is_null(), "{expression}: {given}");
        given["result"]["value"].take()
    }

    /// What stands on the console since it was asked last.
    pub fn console(&self) -> Vec<String> {
        let lines = self.of_session("se/log", &json!({"type": "browser"}));
        lines.as_array().unwrap().iter().map(|line| line["message"].to_string()).collect()
    }

    /// Presses a key.
    pub fn press(&self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            other => panic!("{other}"),
        };
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": if kind == "keyDown" { text } else { "" }});
            self.command("Input.dispatchKeyEvent", &event);
        }
    }

    /// The whole page as a picture, in `folder`.
    pub fn picture(&self, safe: &Loopback, folder: &str, name: &str) {
        let shot = self.command("Page.captureScreenshot", &json!({"captureBeyondViewport": true}));
        safe.write("picture.base64", shot["data"].as_str().unwrap());
        safe.sh(&format!("mkdir -p '{folder}'; base64 -d picture.base64 >'{folder}/{name}.png'; test -s '{folder}/{name}.png'"));
    }

    /// What axe finds wrong with the page, a line each.
    pub fn axe(&self) -> Vec<String> {
        let file = source_root().join("tests/browser/node_modules/axe-core/axe.min.js");
        let axe = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{error}; run deploy/packages.sh test: {}", file.display()));
        self.command("Runtime.evaluate", &json!({ "expression": axe }));
        let found = self.value("axe.run().then(r => r.violations.concat(r.incomplete.filter(v => v.id == 'color-contrast')).map(v => v.id + ': ' + v.help + ' ' + v.nodes.map(n => n.html + ' ' + n.any.map(a => a.message).join(' ')).join(' | ')))");
        found.as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends the browser with it. When a test fails, the driver's own end must do.
        if !std::thread::panicking() {
            let _ = ask(self.port, "DELETE", &format!("/session/{}", self.session), &[], "");
        }
    }
}
