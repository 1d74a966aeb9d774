//! Parses arguments, calls [`edamame_guard::run`], turns its result into an exit status.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;
use edamame_guard::cli;
use edamame_guard::run::{self, hooks, sidecar, streams};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let result = match arguments.split_first() {
        Some((word, arguments)) if word == sidecar::RECORD => sidecar::record(arguments),
        Some((word, [])) if word == streams::PASS_ON => {
            streams::pass_on();
            Ok(0)
        }
        Some((word, [])) if word == streams::STAND_BY => {
            streams::stand_by();
            Ok(0)
        }
        Some((word, arguments)) if word == hooks::HANDLE => hooks::main(arguments),
        _ => run::main(cli::Cli::parse()),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("{}", error.for_people());
            ExitCode::from(error.status())
        }
    }
}
