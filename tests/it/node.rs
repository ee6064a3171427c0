//! A real node for a test: the built program with a configuration in a temporary folder, its log kept for the case that
//! the test fails.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringway::cli::status::ask;
use ringway::supervisor::report::{ProcessReport, Report};
use ringway::sys::fail::FOLDER_VARIABLE;
use tempfile::TempDir;

/// How long anything may take before a test gives up; far above what a loaded machine needs.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Polls until `found` gives something, or panics with what was waited for.
pub fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A sensor for JT/T 808 and both servers on free ports, and no broker.
pub const QUIET: &str = r#"
[[sensor]]
name = "trackers"
input = "tcp"
protocol = "jt808"
listen = "127.0.0.1:0"

[dispatcher]
listen = "127.0.0.1:0"

[observer]
listen = "127.0.0.1:0"
"#;

/// A running node.
pub struct Node {
    folder: TempDir,
    child: Option<Child>,
}

impl Node {
    /// Starts a node with this configuration below a `[node]` section of its own, and waits until it is ready.
    pub fn start(config: &str) -> Node {
        let mut node = Node::prepare(config);
        node.launch();
        node.ready();
        node
    }

    /// Writes the configuration without starting anything.
    pub fn prepare(config: &str) -> Node {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let text =
            format!("[node]\nsite = \"test\"\nname = \"n1\"\nstate_dir = {state:?}\n{config}");
        std::fs::write(folder.path().join("edge.toml"), text).unwrap();
        Node {
            folder,
            child: None,
        }
    }

    /// Where fail points are armed, if it was made before the program was started.
    pub fn fail_folder(&self) -> PathBuf {
        self.folder.path().join("fail")
    }

    /// Starts the program; its standard error goes to a file.
    pub fn launch(&mut self) {
        self.launch_by(Command::new(env!("CARGO_BIN_EXE_ringway")));
    }

    /// Starts a command that becomes the program when it is given the program's arguments.
    pub fn launch_by(&mut self, mut command: Command) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        // Only where a test has fail points: asking costs a system call a point.
        let fail_folder = self.fail_folder();
        let fail_folder = fail_folder
            .exists()
            .then_some((FOLDER_VARIABLE, fail_folder));
        let child = command
            .arg("run")
            .arg("--config")
            .arg(self.config_path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .envs(fail_folder)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Waits until every child serves.
    pub fn ready(&mut self) -> Report {
        let state = self.state_dir();
        let child = self.child.as_mut().unwrap();
        wait_for("the node to be ready", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the node ended early: {status}");
            }
            ask(&state).ok().filter(|report| report.state == "ready")
        })
    }

    /// What the node says of itself.
    pub fn report(&self) -> Report {
        ask(&self.state_dir()).unwrap()
    }

    /// The address that something listens on, such as `sensor:trackers`.
    pub fn address(&self, name: &str) -> String {
        self.report().listeners[name].clone()
    }

    /// Process id of the supervisor.
    pub fn pid(&self) -> i32 {
        self.child.as_ref().unwrap().id() as i32
    }

    /// A counter or gauge of a child, named as in the metrics, such as `ringway_messages_total`; 0 if it has none.
    pub fn figure(&self, instance: &str, name: &str) -> f64 {
        let processes = self.report().processes;
        let process = processes
            .iter()
            .find(|process| process.instance == instance);
        let process = process.unwrap_or_else(|| panic!("no process {instance}"));
        process.figures.get(name).copied().unwrap_or(0.0)
    }

    /// Waits until a counter or gauge of a child has reached a value.
    pub fn await_figure(&self, instance: &str, name: &str, at_least: f64) {
        wait_for(&format!("{name} of {instance} to reach {at_least}"), || {
            (self.figure(instance, name) >= at_least).then_some(())
        });
    }

    /// The child with this role, or the first of them.
    pub fn process(&self, role: &str) -> Option<ProcessReport> {
        ask(&self.state_dir())
            .ok()?
            .processes
            .into_iter()
            .find(|process| process.role == role)
    }

    /// Sends a signal to the child with this role; `false` if it does not run just now.
    pub fn signal(&self, role: &str, signal: Signal) -> bool {
        let pid = self.process(role).and_then(|process| process.pid);
        pid.is_some_and(|pid| kill(Pid::from_raw(pid as i32), signal).is_ok())
    }

    /// Sends a signal to the supervisor.
    pub fn signal_supervisor(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Waits for the supervisor to end.
    pub fn ended(&mut self) -> ExitStatus {
        wait_for("the node to end", || self.try_ended())
    }

    /// How the supervisor ended, if it has.
    pub fn try_ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut().unwrap().try_wait().unwrap()?;
        self.child = None;
        Some(status)
    }

    /// Ends the node with TERM and returns its exit status.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal_supervisor(Signal::SIGTERM);
        self.ended()
    }

    /// The configuration.
    pub fn config_path(&self) -> PathBuf {
        self.folder.path().join("edge.toml")
    }

    /// The state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What the node and its children logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended already; its children end when it does.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("---- log of the node ----\n{}", self.log());
        }
    }
}
