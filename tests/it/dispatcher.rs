//! The dispatcher over its real ring, table and sockets.

use std::io::Write;

use ringway::frame::{AlarmKind, Phase, TraceRecord};
use ringway::hop::{Hop, TraceHead};
use ringway::stats::DispatcherMetric as Metric;
use serde_json::{Value, json};

use super::dispatched::{World, event, eventually, frame, hear, hear_snapshot, now_ms};

/// Tracks of update messages until `count` are there.
fn hear_tracks(socket: &mut super::dispatched::Socket, count: usize) -> Vec<Value> {
    let mut tracks = Vec::new();
    while tracks.len() < count {
        let message = hear(socket).expect("tracks come before the end");
        if message["type"] == "tracks" {
            tracks.extend(message["tracks"].as_array().unwrap().iter().cloned());
        }
    }
    tracks
}

#[test]
fn a_subscriber_gets_snapshot_updates_alarms_and_a_goodbye() {
    let mut world = World::new(256);
    let dispatched = world.start();
    world.track(&frame("van-1", 1_000));
    world.wait_for(Metric::Tracks, 1);
    let mut socket = dispatched.subscribe();
    let snapshot = hear_snapshot(&mut socket);
    assert_eq!(
        (snapshot.len(), &snapshot[0]["device"]),
        (1, &json!("van-1"))
    );

    let moved = frame("van-1", 2_000);
    world.alarm(&event(&moved, AlarmKind::Geofence, "port", Phase::Raise));
    world.track(&moved);
    let alarm = hear(&mut socket).unwrap();
    assert_eq!(
        (
            &alarm["type"],
            &alarm["alarm"]["kind"],
            &alarm["alarm"]["rule"]
        ),
        (&json!("alarm"), &json!("geofence"), &json!("port"))
    );
    let track = &hear_tracks(&mut socket, 1)[0];
    assert_eq!(track["alarms"], json!(["geofence"]));
    assert_eq!(track["time"], "1970-01-01T00:00:02.000Z");
    assert_eq!(
        dispatched.get_json("/v1/alarms")["alarms"][0],
        alarm["alarm"]
    );

    dispatched.drain();
    assert_eq!(hear(&mut socket), Some(json!({"type": "closing"})));
    // What the classifier still has is pushed before the end.
    world.track(&frame("van-1", 3_000));
    assert_eq!(
        hear_tracks(&mut socket, 1)[0]["time"],
        "1970-01-01T00:00:03.000Z"
    );
    world.close_ring();
    assert_eq!(hear(&mut socket), None);
    dispatched.join();
}

#[test]
fn every_update_of_a_subscriber_that_keeps_up_arrives_in_order() {
    let mut world = World::new(512);
    let dispatched = world.start();
    let mut socket = dispatched.subscribe();
    hear_snapshot(&mut socket);
    let feeder = std::thread::spawn(move || {
        (1..=5_000).for_each(|n| world.track(&frame(&format!("v{}", n % 7), n)));
        world
    });
    let mut last = [0; 7];
    let mut heard = 0;
    while heard < 5_000 {
        for track in hear_tracks(&mut socket, 1) {
            heard += 1 + track["conflated"].as_u64().unwrap_or(0);
            let vehicle: usize = track["device"].as_str().unwrap()[1..].parse().unwrap();
            let time = track["time"].as_str().unwrap().to_owned();
            let ms =
                time[17..19].parse::<u64>().unwrap() * 1_000 + time[20..23].parse::<u64>().unwrap();
            assert!(
                ms > last[vehicle],
                "{vehicle} went back from {} to {ms}",
                last[vehicle]
            );
            last[vehicle] = ms;
        }
    }
    assert_eq!(heard, 5_000);
    drop(feeder.join().unwrap());
    dispatched.drain();
}

#[test]
fn a_successor_knows_the_fleet_from_the_state_table() {
    let mut world = World::new(256);
    let parked = frame("parked", 5_000);
    let open = event(&parked, AlarmKind::PowerCut, "device", Phase::Raise);
    world.state(None, &parked, &[open]);
    let first = world.start();
    let snapshot = hear_snapshot(&mut first.subscribe());
    assert_eq!(
        (
            &snapshot[0]["device"],
            &snapshot[0]["sensor"],
            &snapshot[0]["alarms"]
        ),
        (&json!("parked"), &json!("gate"), &json!(["power_cut"]))
    );
    // The ring stays open, so this takes as long as a drain may.
    first.drain();
    first.join();
    assert_eq!(hear_snapshot(&mut world.start().subscribe()).len(), 1);
}

#[test]
fn what_the_ring_had_no_room_for_comes_from_the_table() {
    let mut world = World::new(256);
    let slot = world.state(None, &frame("van", 1_000), &[]);
    let dispatched = world.start();
    let mut socket = dispatched.subscribe();
    hear_snapshot(&mut socket);
    world.state(Some(slot), &frame("van", 9_000), &[]);
    world.request_resync();
    let van = &hear_tracks(&mut socket, 1)[0];
    assert_eq!(van["time"], "1970-01-01T00:00:09.000Z");
    world.wait_for(Metric::Resyncs, 2);
}

#[test]
fn a_new_device_gets_its_sensor_from_the_table() {
    let mut world = World::new(256);
    let dispatched = world.start();
    world.track(&frame("new", 1_000));
    world.state(None, &frame("new", 1_000), &[]);
    eventually("the sensor is known", || {
        let features = dispatched.get_json("/v1/tracks");
        features["features"][0]["properties"]["sensor"] == "gate"
    });
}

#[test]
fn tracks_are_served_as_geojson_by_device_and_box() {
    let mut world = World::new(1024);
    let dispatched = world.start();
    for n in 0..700 {
        let mut frame = frame(&format!("v{n}"), 1_000);
        frame.fix.lon_e7 += n;
        world.track(&frame);
    }
    world.wait_for(Metric::Tracks, 700);
    let all = dispatched.get_json("/v1/tracks");
    assert_eq!(all["type"], "FeatureCollection");
    assert_eq!(all["features"].as_array().unwrap().len(), 700);
    let count = |path| {
        dispatched.get_json(path)["features"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(count("/v1/tracks?device=v7"), 1);
    assert_eq!(count("/v1/tracks?device=nobody"), 0);
    assert_eq!(count("/v1/tracks?bbox=7.4,43.7,7.4215049,43.8"), 50);
    assert_eq!(count("/v1/tracks?bbox=7.4,43.7,7.5,43.8&device=v699"), 1);
    assert_eq!(dispatched.get_json("/v1/tracks/v699")["id"], "v699");
    let mut moved = frame("v699", 2_000);
    moved.fix.lat_e7 += 2_000;
    world.track(&moved);
    world.wait_for(Metric::Tracks, 701);
    let trail = &dispatched.get_json("/v1/tracks/v699")["properties"]["trail"];
    assert_eq!(
        (trail.as_array().unwrap().len(), &trail[1]["lat"]),
        (2, &json!(43.7342))
    );
    for (path, expected) in [
        ("/v1/tracks/nobody", 404),
        ("/v1/tracks/a%20b", 400),
        ("/v1/tracks?bbox=1,2,3", 400),
        ("/v1/tracks?colour=red", 400),
        ("/v1/roads", 404),
        ("/nothing", 404),
    ] {
        let (status, head, body) = dispatched.get(path);
        assert_eq!((status, path), (expected, path));
        assert!(head.contains("content-type: application/json"));
        assert!(serde_json::from_slice::<Value>(&body).unwrap()["error"].is_string());
    }
}

#[test]
fn the_page_is_locked_to_its_origin() {
    let world = World::new(64).with_roads(b"{\"nodes\":[],\"edges\":[]}");
    let dispatched = world.start();
    let (status, head, body) = dispatched.get("/");
    assert_eq!(status, 200);
    assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self';"));
    assert!(
        String::from_utf8(body)
            .unwrap()
            .contains("data-roads=\"yes\"")
    );
    // Twice: the second reading must not begin where the first one ended.
    assert_eq!(dispatched.get_json("/v1/roads")["nodes"], json!([]));
    let elsewhere = dispatched.get_with("/v1/tracks", "Host: evil.example\r\n");
    assert_eq!(elsewhere.0, 421);
    let origin = format!("http://{}", dispatched.address);
    assert!(dispatched.subscribe_from(Some(&origin)).is_ok());
    let refused = dispatched.subscribe_from(Some("http://evil.example"));
    assert_eq!(refused.err(), Some(403));
}

#[test]
fn subscribers_beyond_the_limit_are_refused_and_the_place_is_free_again_after_one_left() {
    let world = World::new(64).with_settings(|settings| settings.subscribers_max = 1);
    let dispatched = world.start();
    let mut socket = dispatched.subscribe();
    hear_snapshot(&mut socket);
    assert_eq!(dispatched.subscribe_from(None).err(), Some(503));
    drop(socket);
    eventually("the place is free", || {
        dispatched.subscribe_from(None).is_ok()
    });
    world.wait_for(Metric::SubscribersRefused, 1);
}

#[test]
fn a_subscriber_that_talks_is_sent_away() {
    let world = World::new(64);
    let dispatched = world.start();
    let mut socket = dispatched.subscribe();
    hear_snapshot(&mut socket);
    socket.send("let me tell you".into()).unwrap();
    assert_eq!(hear(&mut socket), None);
}

#[test]
fn a_stalled_subscriber_is_cut_off_and_the_others_notice_nothing() {
    let mut world = World::new(1024).with_settings(|settings| {
        settings.stalled_ms = 1_000;
        settings.subscriber_updates_max = 64;
    });
    let dispatched = world.start();
    let mut quick = dispatched.subscribe();
    hear_snapshot(&mut quick);
    let mut stalled = dispatched.subscribe();
    hear_snapshot(&mut stalled);
    let feeder = std::thread::spawn(move || {
        // Until the stalled one's socket buffers are full and its time is over.
        let mut time_ms = 0;
        let page_says_so = |world: &World| {
            let page = ringway::stats::read(world.page_fd()).unwrap();
            page.number(Metric::SubscribersCutOff) >= Some(1)
        };
        while !page_says_so(&world) {
            time_ms += 1;
            (0..500).for_each(|n| world.track(&frame(&format!("v{n}"), time_ms)));
        }
        time_ms += 1;
        world.track(&frame("last", time_ms));
        world
    });
    // Not parsed: it must stay quick in a slow build too.
    while !quick
        .read()
        .unwrap()
        .to_text()
        .unwrap()
        .contains("\"last\"")
    {}
    feeder
        .join()
        .unwrap()
        .wait_for(Metric::SubscribersCutOff, 1);
}

#[test]
fn records_that_do_not_parse_are_counted_and_passed_over() {
    let mut world = World::new(64);
    let dispatched = world.start();
    for record in [&b""[..], b"\x00", b"\x00rubbish", b"\x01\xff\xff", b"\x02"] {
        world.publish(record);
    }
    world.track(&frame("good", 1_000));
    world.wait_for(Metric::BadRecords, 5);
    world.wait_for(Metric::Vehicles, 1);
    assert_eq!(hear_snapshot(&mut dispatched.subscribe()).len(), 1);
}

#[test]
fn a_sampled_track_is_traced_to_its_push_and_no_other() {
    let mut world = World::new(64);
    let _dispatched = world.start();
    let mut sampled = frame("b", now_ms());
    sampled.trace.trace_id = 8;
    sampled.trace.flags = TraceHead::SAMPLED;
    world.track(&frame("a", now_ms()));
    world.track(&sampled);
    let TraceRecord::Pushed { head, device, .. } = world.trace() else {
        panic!("the dispatcher tells of pushes only");
    };
    assert_eq!((head.trace_id, device.as_str()), (8, "b"));
    assert!(head.at_ns(Hop::Done).is_some());
}

#[test]
fn a_broken_request_ends_its_connection_only() {
    let world = World::new(64);
    let dispatched = world.start();
    let mut stream = std::net::TcpStream::connect(dispatched.address).unwrap();
    stream.write_all(&[0xff; 100_000]).ok();
    assert_eq!(dispatched.get("/v1/alarms").0, 200);
}
