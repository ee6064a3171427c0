//! The command line, one file a verb.

pub mod check;
pub mod decode;
pub mod demo;
pub mod record;
pub mod reload;
pub mod replay;
pub mod run;
mod said;
pub mod status;

use std::io;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::role::exit;
use crate::supervisor::launcher::Launch;

/// Where the configuration is looked for.
const CONFIG_PATH: &str = "/etc/ringway/ringway.toml";

const EXAMPLES: &str = "\
Examples:
  ringway demo                          see it all at work, with a simulated fleet
  ringway check --config edge.toml      is this configuration right?
  ringway run --config edge.toml        run the node in the foreground
  ringway status --config edge.toml     how is it doing?
  ringway record trackers --for 10min   keep what a sensor's devices say, byte by byte
  ringway replay FILE.ringcap           what do they say?
  printf 'hex:7e0002...7e\\n' | ringway decode jt808

Exit codes: 0 done, 64 wrong use, 69 a port or service is taken or away, 70 an error of our own,
74 a file failed, 75 something was left behind in a drain, 78 the configuration is wrong.";

const DECODE_HELP: &str = "\
A line is one message: hex: and digits, http: and a JSON object with method, url, headers and body,
or text with \\\\, \\r and \\n escaped. An empty line starts a new session.

Examples:
  echo '$GPGLL,5057.970,N,00146.110,E,142451,A*27' | ringway decode nmea
  echo 'hex:78780d01049015420323751800011f170d0a' | ringway decode gt06";

/// Positions of a fleet to local dispatch in milliseconds, alarms to the cloud without loss.
#[derive(Debug, Parser)]
#[command(name = "ringway", version, about, after_help = EXAMPLES, disable_help_subcommand = true)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub struct ConfigPath {
    /// The configuration; drop-ins are read from the folder of the same name ending in .d
    #[arg(long, value_name = "FILE", default_value = CONFIG_PATH)]
    pub config: PathBuf,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the node in the foreground until TERM or INT
    #[command(after_help = "Example:\n  ringway run --config edge.toml")]
    Run(ConfigPath),
    /// Read the configuration and say what is wrong with it
    Check(check::Check),
    /// Run a node, a simulated fleet and a broker on this machine and check what arrives
    Demo(demo::Demo),
    /// Read messages of a protocol on standard input and print them as JSON
    #[command(after_help = DECODE_HELP)]
    Decode {
        /// The protocol, such as jt808, teltonika, gt06, nmea or auto
        protocol: String,
        /// Accept messages with a wrong checksum
        #[arg(long)]
        lenient: bool,
    },
    /// Show what a recording says, or play it to a node
    Replay(replay::Replay),
    /// Show how a running node is doing
    Status(status::Status),
    /// Have a running node read its certificates and lists of devices again
    Reload(reload::Reload),
    /// Record what a sensor's devices say while the node runs
    Record(record::Record),
    /// Print the version
    Version,
    /// Be a child of a running node (not for people)
    #[command(hide = true)]
    Role,
    /// Become the program of a sensor (not for people)
    #[command(hide = true)]
    Launch(Launch),
}

/// Reads the command line.
///
/// # Errors
/// The exit code, after help or the reason was printed.
pub fn parse() -> Result<Verb, i32> {
    CommandLine::try_parse()
        .map(|line| line.verb)
        .map_err(|error| {
            // A closed pipe while printing help is nobody's problem.
            let _ = error.print();
            if error.use_stderr() {
                exit::USAGE
            } else {
                exit::OK
            }
        })
}

/// Does what was asked and returns the exit code.
pub fn carry_out(verb: Verb) -> i32 {
    match verb {
        Verb::Run(path) => run::run(&path.config),
        Verb::Check(check) => check::run(&check),
        Verb::Demo(demo) => demo::run(&demo),
        Verb::Decode { protocol, lenient } => {
            let output = io::BufWriter::new(io::stdout().lock());
            match decode::run(&protocol, lenient, io::stdin().lock(), output) {
                Ok(()) => exit::OK,
                Err(error) => {
                    let code = error.exit_code();
                    if code != exit::OK {
                        eprintln!("ringway: {error}");
                    }
                    code
                }
            }
        }
        Verb::Status(status) => status::run(&status),
        Verb::Reload(reload) => reload::run(&reload),
        Verb::Record(record) => record::run(&record),
        Verb::Replay(replay) => replay::run(&replay),
        Verb::Version => {
            println!("ringway {}", env!("CARGO_PKG_VERSION"));
            exit::OK
        }
        Verb::Role => crate::supervisor::child_main(),
        Verb::Launch(launch) => launch.run(),
    }
}
