//! The live map in a real browser.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringway::frame::{AlarmKind, Alarms, FixFields, Phase};

use super::browser::Browser;
use super::dispatched::{Dispatched, World, event};
use super::drive::{Drive, roads};

/// Drives until it is dropped.
struct Traffic {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<World>>,
}

impl Traffic {
    /// Each car reports once a second; the first one is in alarm, every fortieth has lost its position.
    fn start(mut world: World, mut drive: Drive) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let begin = Instant::now();
            let mut reports = 0;
            while !stopped.load(Ordering::Relaxed) {
                let car = reports % drive.len();
                let mut frame = drive.report(car);
                if car == 0 {
                    frame.held = Alarms::from(AlarmKind::PowerCut);
                }
                if car % 40 == 13 {
                    frame.fix.fields.0 &= !FixFields::VALID;
                }
                if reports == 0 {
                    world.alarm(&event(&frame, AlarmKind::PowerCut, "device", Phase::Raise));
                }
                if car % 29 == 5 && reports < drive.len() {
                    let kind = [AlarmKind::Overspeed, AlarmKind::Geofence][car % 2];
                    let rule = ["overspeed", "Port Hercule"][car % 2];
                    let mut found = event(&frame, kind, rule, Phase::Raise);
                    found.start_ms -= 47_000 * (car as i64 % 17);
                    world.alarm(&found);
                }
                world.track(&frame);
                reports += 1;
                let due = begin + Duration::from_secs_f64(reports as f64 / drive.len() as f64);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            world
        });
        Traffic {
            stop,
            thread: Some(thread),
        }
    }

    fn stop(mut self) -> World {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("stopped once").join().unwrap()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn town(cars: usize) -> (World, Drive) {
    let roads = roads();
    let world = World::new(4096).with_roads(roads.to_string().as_bytes());
    (world, Drive::new(&roads, cars, 7))
}

fn address(dispatched: &Dispatched) -> String {
    format!("http://{}/", dispatched.address)
}

/// Pixels of the vehicles' canvas, as a number that differs when any of them does; 0 when all are empty.
const PICTURE: &str = "(() => {
    const canvas = [...document.querySelectorAll('#map > canvas')].at(-1);
    const copy = Object.assign(document.createElement('canvas'), { width: canvas.width, height: canvas.height });
    const context = copy.getContext('2d', { willReadFrequently: true });
    context.drawImage(canvas, 0, 0);
    const { data } = context.getImageData(0, 0, copy.width, copy.height);
    return new Uint32Array(data.buffer).reduce((sum, pixel, at) => (sum + pixel * (at % 9973 + 1)) % 1e15, 0);
})()";

fn assert_clean(browser: &mut Browser, origin: &str) {
    let complaints = browser.complaints();
    assert!(
        complaints.is_empty(),
        "the page complained: {complaints:#?}"
    );
    let stream = origin.replace("http://", "ws://");
    let requests = browser.requests();
    assert!(
        requests.iter().any(|url| url.starts_with(&stream)),
        "{requests:?}"
    );
    for url in requests {
        let ours = url.starts_with(origin) || url.starts_with(&stream) || url.starts_with("data:");
        assert!(ours, "the page asked for {url}");
    }
}

#[test]
fn the_page_shows_moving_vehicles_cleanly_and_from_its_own_origin_only() {
    let Some(mut browser) = Browser::open("the page shows moving vehicles", 1280, 800) else {
        return;
    };
    let (world, drive) = town(60);
    let dispatched = world.start();
    let origin = address(&dispatched);
    let _traffic = Traffic::start(world, drive);
    browser.go(&origin);
    browser.wait_for("document.getElementById('count')?.value === '60'");
    browser.wait_for("document.getElementById('connection').dataset.state === 'live'");
    browser.wait_for("+document.getElementById('rate').value > 0");
    browser.wait_for("document.getElementById('attribution').textContent.length > 0");
    let before = browser.value(PICTURE);
    assert_ne!(before, 0, "nothing is drawn");
    browser.wait_for(&format!("{PICTURE} !== {before}"));

    // Everything that can be reached by hand is reached by keys: find, select, leave.
    browser.press("/");
    browser.type_text("13800001007");
    browser.press("Enter");
    browser.wait_for("document.getElementById('detail-device').textContent === '13800001007'");
    browser.wait_for("!document.getElementById('detail').hidden");
    browser.press("Escape");
    browser.wait_for("document.getElementById('detail').hidden");

    // The alarm leads to its vehicle.
    browser.wait_for("+document.getElementById('alarm-count').textContent >= 1");
    browser.value("document.querySelector('#alarm-list [data-severity=critical]').click()");
    browser.wait_for("document.getElementById('detail-device').textContent === '13800001000'");
    browser.wait_for("document.getElementById('detail-alarms').textContent === 'Power cut'");

    // Neither the other colours nor a narrow window upset it.
    browser.dark(true);
    browser.wait_for("matchMedia('(prefers-color-scheme: dark)').matches");
    let dark = browser.value(PICTURE);
    browser.wait_for(&format!("{PICTURE} !== {dark}"));
    assert_clean(&mut browser, &origin);
}

#[test]
fn the_page_comes_back_by_itself_after_a_restart_and_does_without_roads() {
    let Some(mut browser) = Browser::open("the page comes back by itself", 390, 780) else {
        return;
    };
    let world = World::new(4096);
    let first = world.start();
    let origin = address(&first);
    let traffic = Traffic::start(world, Drive::new(&roads(), 5, 7));
    browser.go(&origin);
    browser.wait_for("document.getElementById('count')?.value === '5'");
    browser.wait_for("document.getElementById('connection').dataset.state === 'live'");
    first.drain();
    browser.wait_for("document.getElementById('connection').dataset.state !== 'live'");
    first.join();
    let world = traffic.stop();
    let _second = world.start();
    let _traffic = Traffic::start(world, Drive::new(&roads(), 6, 7));
    browser.wait_for("document.getElementById('connection').dataset.state === 'live'");
    browser.wait_for("document.getElementById('count').value === '6'");
    assert_clean(&mut browser, &origin);
}
