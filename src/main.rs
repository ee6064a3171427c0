//! The `ringway` program: parse, one match on the verb, one error line, one exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    let code = match ringway::cli::parse() {
        Ok(verb) => ringway::cli::carry_out(verb),
        Err(code) => code,
    };
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}
