//! The ring beside every other transport: two processes, each on a core of its own, in one run.
mod catalogue;
mod frame;
mod iceoryx;
mod ours;
mod packet;
mod pair;
mod raw;
mod shared;
mod side;
mod stream;
mod transport;

use std::time::Duration;
use pair::{Case,Pair};
use side::Measure;
use transport::Mode;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).map(String::as_str) == Some("side") {
        let spec = serde_json::from_str(&args[2]).expect("json");
        if let Err(e) = catalogue::run(&spec) { eprintln!("{} {:?}: {e}", spec.transport, spec.side); std::process::exit(1) }
        return;
    }
    let only: Vec<&String> = args[1..].iter().filter(|a| !a.starts_with("--")).collect();
    let folder = tempfile::tempdir().expect("dir");
    for kind in catalogue::KINDS {
        if !only.is_empty() && !only.iter().any(|o| *o == kind.name) { continue }
        print!("{:<18}", kind.name);
        for size in [64usize,128,256] {
        for batch in [1, transport::BATCH_FRAMES] {
            let case = Case { transport: kind.name, measure: Measure::Throughput{batch}, mode: kind.pouring, size, window: Duration::from_millis(200)};
            let r = Pair::start(&case, [0,1], || catalogue::create(kind.name, folder.path(), size)).and_then(|mut p| p.run(case.window));
            match r { Ok((_, r)) => { print!(" {:7.2}", r.frames as f64/r.seconds/1e6); if r.lost+r.torn+r.repeated>0 {print!("!{r:?}")} } Err(e) => print!(" {e:?}") }
        }}
        for mode in [Mode::Poll, Mode::Sleep] {
            let case = Case { transport: kind.name, measure: Measure::Hop, mode, size:128, window: Duration::from_millis(200)};
            let r = Pair::start(&case, [0,1], || catalogue::create(kind.name, folder.path(), 128)).and_then(|mut p| p.run(case.window));
            match r { Ok((w, _)) => print!(" hop {:?}", w.hop_us.unwrap_or_default()), Err(e) => print!(" {e:?}") }
        }
        for rate in [10_000, 100_000] {
            let case = Case { transport: kind.name, measure: Measure::Paced{rate}, mode:Mode::Sleep, size:128, window: Duration::from_millis(400)};
            let r = Pair::start(&case, [0,1], || catalogue::create(kind.name, folder.path(), 128)).and_then(|mut p| p.run(case.window));
            match r { Ok((w, r)) => print!(" paced {:?} w {:.2} r {:.2}", r.hop_us.unwrap_or_default(), w.cpu_seconds*1e6/w.frames as f64, r.cpu_seconds*1e6/r.frames as f64), Err(e) => print!(" {e:?}") }
        }
        println!();
    }
}
