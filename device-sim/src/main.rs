//! The `device-sim` program.

fn main() -> std::process::ExitCode {
    device_sim::cli::main(std::env::args_os())
}
