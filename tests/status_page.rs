//! The live page of `serve --status` in headless Chromium, which is driven over its debugging pipe.

mod common;

use common::{PATIENCE, Program, client, echo, have};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const BROWSER: &str = "chromium-headless-shell";

/// A browser with one page. It is killed when this is dropped.
struct Browser {
    child: Child,
    commands: ChildStdin,
    answers: Receiver<Value>,
    session: Option<Value>,
    last: u64,
}

impl Browser {
    /// The browser reads commands from descriptor 3, and writes answers to 4.
    fn start() -> Browser {
        let script = "exec \"$0\" --no-sandbox --disable-gpu --hide-scrollbars \
            --remote-debugging-pipe about:blank 3<&0 4>&1 </dev/null >/dev/null 2>&1";
        let mut child = Command::new("sh")
            .args(["-c", script, BROWSER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = child.stdin.take().unwrap();
        let mut output = child.stdout.take().unwrap();
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            let (mut text, mut buffer) = (Vec::new(), vec![0; 65_536]);
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                text.extend(&buffer[..count]);
                while let Some(end) = text.iter().position(|&byte| byte == 0) {
                    let whole: Vec<u8> = text.drain(..=end).collect();
                    let answer = serde_json::from_slice(&whole[..end]).unwrap();
                    if sender.send(answer).is_err() {
                        return;
                    }
                }
            }
        });
        let mut browser = Browser {
            child,
            commands,
            answers,
            session: None,
            last: 0,
        };
        browser.open_page();
        browser
    }

    fn open_page(&mut self) {
        let page = json!({ "url": "about:blank" });
        let target = self.call("Target.createTarget", page)["targetId"].clone();
        let attach = json!({ "targetId": target, "flatten": true });
        let session = self.call("Target.attachToTarget", attach)["sessionId"].clone();
        self.session = Some(session);
        self.call("Page.enable", json!({}));
        self.call("Runtime.enable", json!({}));
    }

    /// Calls a method of the protocol, and returns its result.
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut command = json!({ "id": self.last, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            command["sessionId"] = session.clone();
        }
        let text = format!("{command}\0");
        self.commands.write_all(text.as_bytes()).unwrap();
        loop {
            let answer = self.answers.recv_timeout(3 * PATIENCE);
            let mut answer = answer.unwrap_or_else(|_| panic!("no answer to {method}"));
            // What a page logs, such as an error, is no answer to a call.
            assert_ne!(answer["method"], "Runtime.exceptionThrown", "{answer}");
            if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].take();
            }
        }
    }

    /// The value of an expression in the page.
    fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true });
        let mut result = self.call("Runtime.evaluate", parameters);
        assert!(
            result["exceptionDetails"].is_null(),
            "{expression}: {result}"
        );
        result["result"]["value"].take()
    }

    /// Waits until an expression is true.
    fn until(&mut self, expression: &str) {
        let start = Instant::now();
        while self.value(expression) != json!(true) {
            let text = self.value("document.body.innerText");
            assert!(start.elapsed() < 3 * PATIENCE, "never {expression}: {text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Shows the page on a screen of this size, in these colours.
    fn show(&mut self, address: SocketAddr, (width, height): (u32, u32), colours: &str) {
        let screen = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500,
        });
        self.call("Emulation.setDeviceMetricsOverride", screen);
        let colours = json!([{ "name": "prefers-color-scheme", "value": colours }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": colours }));
        self.call(
            "Page.navigate",
            json!({ "url": format!("http://{address}/") }),
        );
        self.until("location.pathname === '/' && !!document.querySelector('#bars .busy')");
    }

    /// Writes a picture of the page to this folder, if there is one.
    fn picture(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("DOORKEEPER_PICTURES") else {
            return;
        };
        let path = PathBuf::from(folder).join(name);
        let result = self.call(
            "Page.captureScreenshot",
            json!({ "format": "webp", "quality": 80 }),
        );
        fs::write(path, base64(result["data"].as_str().unwrap())).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its other processes end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The bytes of a text in base64 (RFC 4648, section 4).
fn base64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for letter in text.bytes().filter(|&letter| letter != b'=') {
        let value = LETTERS.iter().position(|&known| known == letter).unwrap();
        (bits, count) = (bits << 6 | value as u32, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

/// A program that is full: eight echo clients and two of chargen that do not read, and five more
/// that wait.
fn busy_program() -> (Program, Vec<TcpStream>) {
    let args = [
        "--status=127.0.0.1:0",
        "--max-connections=10",
        "--backlog=8",
        "echo=:0",
        "chargen=:0",
        "daytime=:0",
    ];
    let program = Program::start(&[], &args, "warn", 4);
    let addresses = [("echo", 8), ("chargen", 2)];
    let mut streams = Vec::new();
    for (service, count) in addresses {
        let address = program.address(service);
        streams.extend((0..count).map(|_| client(address)));
    }
    for stream in &mut streams[..8] {
        assert_eq!(echo(stream, b"secret"), b"secret");
    }
    for stream in &mut streams[8..] {
        stream.read_exact(&mut [0; 1]).unwrap();
    }
    streams.extend((0..5).map(|_| client(program.address("echo"))));
    (program, streams)
}

#[test]
fn the_live_page_shows_the_loop_on_screens_light_and_dark_and_on_a_phone() {
    if !have(BROWSER) {
        return;
    }
    let (program, mut streams) = busy_program();
    let (mut stop, address) = (Vec::new(), program.address("status"));
    // The page is shown while handlers are called.
    let mut talking: Vec<TcpStream> = streams.drain(..7).collect();
    let (sender, receiver) = channel::<()>();
    stop.push(sender);
    let talk = std::thread::spawn(move || {
        while receiver.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            for stream in &mut talking {
                stream.write_all(b"secret").unwrap();
            }
            for stream in &mut talking {
                stream.read_exact(&mut [0; 6]).unwrap();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        talking
    });
    let mut browser = Browser::start();
    browser.show(address, (1200, 1240), "light");
    browser.until("document.querySelector('#state').textContent === 'live'");
    browser.until("document.querySelectorAll('#rows tr').length === 10");
    browser.until("document.querySelectorAll('#queues .bar').length === 3");
    let queue = "document.querySelector('#queues .bar.full .value').textContent === '5 of 8'";
    browser.until(queue);
    browser.until("document.querySelector('#bars').innerText.includes('read(65536) = 6')");
    let text = browser.value("document.body.innerText");
    let text = text.as_str().unwrap();
    assert!(text.contains("also serves what shows it"), "{text}");
    let peer = streams[0].local_addr().unwrap().to_string();
    assert!(text.contains(&peer), "{peer}: {text}");
    for call in [
        "epoll_wait(2)",
        "sock_diag(7)",
        "recv(2)",
        "send(2)",
        "epoll_ctl(2)",
    ] {
        assert!(text.contains(call), "{call}: {text}");
    }
    assert!(!text.contains("secret"), "{text}");
    let background = "getComputedStyle(document.body).backgroundColor";
    let light = browser.value(background);
    browser.picture("status-light.webp");
    browser.show(address, (1200, 1240), "dark");
    assert_ne!(browser.value(background), light);
    browser.picture("status-dark.webp");
    browser.show(address, (390, 1700), "light");
    // Nothing is wider than the screen.
    browser.until("document.querySelectorAll('#rows tr').length === 10");
    assert_eq!(browser.value("document.documentElement.scrollWidth"), 390);
    browser.picture("status-phone.webp");
    drop(stop);
    drop(talk.join().unwrap());
}

#[test]
fn the_live_page_pauses_and_goes_on_and_tries_again_after_a_restart() {
    if !have(BROWSER) {
        return;
    }
    let mut program = Program::start(&[], &["--status=:0", "echo=:0"], "warn", 2);
    let address = program.address("status");
    let mut stream = client(program.address("echo"));
    assert_eq!(echo(&mut stream, b"hello"), b"hello");
    let mut browser = Browser::start();
    let parameters = json!({ "url": format!("http://{address}/") });
    browser.call("Page.navigate", parameters);
    browser.until("document.querySelectorAll('#rows tr').length === 1");
    browser.value("document.querySelector('#pause').click()");
    browser.until("document.querySelector('#state').textContent === 'paused'");
    drop(stream);
    browser.value("document.querySelector('#pause').click()");
    browser.until("document.querySelectorAll('#rows tr').length === 0");
    browser.until("document.querySelector('#state').textContent === 'live'");
    program.child.kill().unwrap();
    program.child.wait().unwrap();
    browser.until("document.querySelector('#state').textContent.startsWith('no answer')");
    let status = format!("--status={address}");
    let _program = Program::start(&[], &[&status, "echo=:0"], "warn", 2);
    browser.until("document.querySelector('#state').textContent === 'live'");
}
