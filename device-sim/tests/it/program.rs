//! The program `device-sim` as those who start it see it: lines on standard output, files, exit status.

use std::path::PathBuf;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

use crate::DEADLINE;
use crate::server::Server;

/// The program with arguments as one would type them.
fn program(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_device-sim"));
    command.args(arguments.split(' ')).kill_on_drop(true);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What a run with these arguments says until its end.
pub async fn run(arguments: &str) -> Output {
    timeout(DEADLINE, program(arguments).output())
        .await
        .unwrap()
        .unwrap()
}

/// JSON lines.
pub fn lines(output: &[u8]) -> Vec<Value> {
    let text = String::from_utf8(output.to_vec()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A folder for one test.
fn folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("device-sim-{name}-{}", std::process::id()))
}

#[tokio::test]
async fn fleet_waits_for_its_targets_and_ends_with_its_input() {
    let address = Server::default().listen(1).await;
    let dir = folder("targets");
    let dir_name = dir.to_str().unwrap();
    let written = run(&format!("scenario --dir {dir_name} --seed 4 --devices 8")).await;
    assert!(written.status.success(), "{written:?}");
    let fleet = format!("fleet --seed 4 --devices 8 --dir {dir_name} --json --wait-targets");
    let mut child = program(&fleet).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = timeout(DEADLINE, output.next_line())
            .await
            .unwrap()
            .unwrap();
        line.map(|line| serde_json::from_str::<Value>(&line).unwrap())
    };
    let first = next().await.unwrap();
    assert!(
        first["otlp"]
            .as_str()
            .unwrap()
            .starts_with("http://127.0.0.1:"),
        "{first}"
    );
    let targets = json!({ "jt808": address.to_string(), "site": "s", "node": "n" });
    input
        .write_all(format!("{targets}\n").as_bytes())
        .await
        .unwrap();
    loop {
        let progress = next().await.unwrap();
        if progress["progress"]["frames_answered"].as_u64().unwrap() >= 8 {
            break;
        }
    }
    drop(input);
    let mut last = None;
    while let Some(line) = next().await {
        last = Some(line);
    }
    let summary = last.unwrap();
    assert_eq!(
        summary["frames_sent"], summary["frames_answered"],
        "{summary}"
    );
    assert_eq!(
        summary["ok"],
        json!(true),
        "without subscribers, answers are all there is: {summary}"
    );
    assert!(child.wait().await.unwrap().success());
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn run_without_answers_is_not_ok() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap().to_string();
    drop(listener);
    let ended = format!("fleet --devices 2 --for 1s --grace 100ms --target {target} --json");
    let ended = run(&ended).await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let last = lines(&ended.stdout).pop().unwrap();
    let members: Vec<&String> = last.as_object().unwrap().keys().collect();
    let expected = [
        "alarms_delivered",
        "alarms_raised",
        "devices",
        "duplicates",
        "frames_answered",
        "frames_sent",
        "invented",
        "latency_ms",
        "lost",
        "ok",
        "protocols",
        "traces",
        "tracks_pushed",
    ];
    assert_eq!(members, expected);
}

#[tokio::test]
async fn scenario_of_other_devices_is_refused() {
    let dir = folder("other");
    let dir_name = dir.to_str().unwrap();
    let written = run(&format!(
        "scenario --dir {dir_name} --seed 4 --devices 8 --json"
    ))
    .await;
    let paths = &lines(&written.stdout)[0];
    let roads = std::fs::read_to_string(paths["roads"].as_str().unwrap()).unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&roads).unwrap()["attribution"],
        "generated"
    );
    let fleet = format!("fleet --devices 8 --seed 5 --dir {dir_name} --target 127.0.0.1:1");
    let refused = run(&fleet).await;
    assert_eq!(refused.status.code(), Some(2));
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(
        error.contains("is not that of seed 5 and 8 devices"),
        "{error}"
    );
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn log_arrives_as_it_was_recorded_without_comments() {
    let file = folder("log");
    let log = "$GPGLL,4916.45,N,12311.12,W,000001,A,*1D\r\nrubbish\r\n$GPGLL,4916.45,N,12311.12,W,000003,A,*1F\r\n";
    std::fs::write(&file, format!("# Date: 1994-03-23\n{log}")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap().to_string();
    let file_name = file.to_str().unwrap();
    let arguments = format!("nmea --file {file_name} --target {target} --speed 20 --json");
    let replay = run(&arguments);
    let receive = async {
        let mut received = String::new();
        let mut stream = listener.accept().await.unwrap().0;
        stream.read_to_string(&mut received).await.unwrap();
        received
    };
    let (replayed, received) = tokio::join!(replay, receive);
    assert_eq!(received, log);
    assert_eq!(
        lines(&replayed.stdout)[0],
        json!({ "lines": 3, "bytes": 93, "log_seconds": 2.0 })
    );
    std::fs::remove_file(&file).unwrap();
}
