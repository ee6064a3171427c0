//! Other people's messages and receiver logs against what others decoded from them.
//!
//! The data stay outside the repository: `RINGWAY_TEST_DATA`, or the folder `../shared/data` beside the checkout.
//! Without them these tests skip and say so. What is left out of a comparison is listed with its reason.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop with the line that broke"
)]

mod data;
mod jt808;
mod messages;
mod receivers;

use serde_json::Value as Json;

use self::data::json_lines;

#[test]
fn decode_answers_each_message_line_with_one_object() {
    let run = |protocol: &str, input: &str| {
        let mut output = Vec::new();
        ringway::cli::decode::run(protocol, false, input.as_bytes(), &mut output).unwrap();
        json_lines(&String::from_utf8(output).unwrap())
    };
    let input = "hex:7e000200000139123456780007357e\n\nhex:7e0\nhex:7e0002\nhttp:{}\n\\x\n";
    let out = run("jt808", input);
    assert_eq!(out.len(), 5, "{out:?}");
    assert_eq!(out[0]["device"], "13912345678");
    assert_eq!(out[0]["fixes"], Json::Array(Vec::new()));
    assert_eq!(out[0]["answer"], "7e8001000501391234567800000007000200b17e");
    assert!(out[1..].iter().all(|object| object["error"].is_string()));

    // A login names the sentences after it, up to the empty line.
    let rmc = "$GPRMC,120000.00,A,4807.038,N,01131.000,E,022.4,084.4,150626,003.1,W*43\\r\\n";
    let out = run("nmea", &format!("490154203237518\n{rmc}\n\n{rmc}\n"));
    assert_eq!(out.len(), 3);
    assert_eq!(out[1]["device"], "490154203237518");
    assert_eq!(out[1]["fixes"][0]["time"], "2026-06-15T12:00:00.000Z");
    assert_eq!(out[1]["fixes"][0]["valid"], true);
    assert_eq!(out[2]["device"], Json::Null);

    // Answers of GT06 behind `auto` came out as text, with what is no text lost. The example is the protocol's own.
    let out = run(
        "auto",
        "hex:78780d01012345678901234500018cdd0d0a\n\n##,imei:359586015829802,A;\n",
    );
    assert_eq!(out[0]["answer"], "787805010001d9dc0d0a");
    assert_eq!(out[1]["answer"], "LOAD");

    let unknown = ringway::cli::decode::run("pigeon", false, &b""[..], Vec::new());
    let said = unknown.unwrap_err().to_string();
    assert!(
        said.starts_with("cannot decode \"pigeon\": the protocols are jt808, teltonika, "),
        "{said}"
    );
}
