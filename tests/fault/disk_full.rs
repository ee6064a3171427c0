//! R8, and R9 in small: the file system of the state directory is filled from outside while the broker is away. Alarms
//! are refused and their devices not answered, tracks go on; when space returns alarms are accepted again by themselves.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::stand::{Load, Stand, await_, await_for, block_on, judge};
use crate::{Form, Outcome, Verdict};

const LOAD: Load = Load {
    devices: 300,
    sos_every_s: 2,
    rate: 1.0,
};
const SIZE: &str = "size=16m";
const FULL_FOR: Duration = Duration::from_secs(3);
const FULL_FOR_LONG: Duration = Duration::from_secs(60);
/// What the journal has grown to is used up by alarms before it needs the disk: 82 s were seen in the third cycle.
const FILLS: Duration = Duration::from_secs(240);
/// Devices that got no answer for a while try again up to 48 s later; then they connect anew.
const REST: Duration = Duration::from_secs(90);
/// Reports younger than this may still be on their way.
const ON_ITS_WAY: Duration = Duration::from_secs(2);
const CYCLES: u32 = 1;
const CYCLES_LONG: u32 = 4;

pub fn run(form: Form) -> Verdict {
    let folder = tempfile::tempdir().unwrap();
    // Unmounted when the node has ended, and before its folder goes.
    match Small::mount(folder.path()) {
        Ok(small) => block_on(fill(form, &small.0)),
        Err(why) => Verdict {
            outcome: Outcome::Skipped(format!("no small file system: {why}")),
            counts: BTreeMap::new(),
        },
    }
}

async fn fill(form: Form, small: &Path) -> Verdict {
    let state = |node: &crate::node::Node| {
        std::os::unix::fs::symlink(small, node.state_dir()).unwrap();
    };
    let mut stand = Stand::prepared(form.seed, LOAD, "", state).await;
    let (mut refused, mut tracks, mut back_ms) = (0, 0, Vec::new());
    let (mut filled, mut answered, mut recovered, mut rested) = (true, false, true, true);
    for _ in 0..if form.long { CYCLES_LONG } else { CYCLES } {
        stand.broker_away().await;
        let before = stand.uplink("refused");
        let filler = small.join("filler");
        // What the journal gives back and takes again is filled up as well, until it has nothing left.
        filled &= await_for(FILLS, || {
            fill_up(&filler);
            stand.uplink("refused") > before
        })
        .await;
        let (early, pushed) = (accepted(&stand), stand.fleet.progress().tracks_pushed);
        let outstanding = stand.fleet.ledger().outstanding() as u64;
        sleep(if form.long { FULL_FOR_LONG } else { FULL_FOR }).await;
        // The broker is away, so whoever is answered for an alarm must have it in the journal.
        let more = stand.fleet.ledger().outstanding() as u64;
        answered |= more.saturating_sub(outstanding) > accepted(&stand) - early;
        tracks += stand.fleet.progress().tracks_pushed - pushed;
        refused += stand.uplink("refused") - before;
        let (early, returns) = (accepted(&stand), Instant::now());
        std::fs::remove_file(&filler).unwrap();
        recovered &= await_(|| accepted(&stand) > early).await;
        back_ms.push(returns.elapsed().as_millis() as u64);
        stand.broker_back().await;
        await_(|| stand.uplink("ringway_journal_records") == 0).await;
        // Also those whose newer reports waited for one that found no room.
        rested &= await_for(REST, || {
            let unanswered = stand.fleet.ledger().unanswered(ON_ITS_WAY);
            unanswered.deciding + unanswered.plain == 0
        })
        .await;
    }
    let check = stand.fleet.finish().await;
    let counts = BTreeMap::from([
        ("refused", json!(refused)),
        ("tracks_while_full", json!(tracks)),
        ("accepts_again_after_ms", json!(back_ms)),
    ]);
    let verdict = judge(&check, counts)
        .but(&[
            (!filled, "the disk did not fill"),
            (
                answered,
                "a device was answered for an alarm that is not in the journal",
            ),
            (tracks == 0, "no track came while the disk was full"),
            (
                !recovered,
                "no alarm was accepted when there was space again",
            ),
            (
                !rested,
                "a device was not answered although there was space again",
            ),
        ])
        .with_log(&stand.node);
    let status = stand.node.terminate();
    verdict.but(&[(!status.success(), "the node did not drain")])
}

fn accepted(stand: &Stand) -> u64 {
    stand.uplink("ringway_records_accepted_total")
}

/// Writes to the end of a file until there is no space left.
fn fill_up(path: &Path) {
    let mut file = File::options().create(true).append(true).open(path);
    for block in [1 << 20, 1 << 12, 1] {
        let zeros = vec![0; block];
        while file
            .as_mut()
            .is_ok_and(|file| file.write_all(&zeros).is_ok())
        {}
    }
}

/// A small file system in memory.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Result<Small, String> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", SIZE, "ringway-lab"]);
        let output = mount.arg(at).output().map_err(|why| why.to_string())?;
        if output.status.success() {
            Ok(Small(at.to_path_buf()))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_string())
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a child of a killed node may need a moment to end.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
