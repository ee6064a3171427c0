#![no_main]

#[path = "../harness/mod.rs"]
#[allow(dead_code)]
mod harness;

#[path = "../meter.rs"]
mod meter;

#[global_allocator]
static ALLOCATOR: meter::Counting = meter::Counting;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let meter = Some(meter::most_bytes as harness::decoder::Meter);
    harness::decoder::run_requests(bytes, meter);
});
