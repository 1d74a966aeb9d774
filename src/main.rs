//! Parses arguments, calls [`edamame_guard::run`], turns its result into an exit status.

use std::process::ExitCode;

use clap::Parser as _;
use edamame_guard::{cli, run};

fn main() -> ExitCode {
    match run::main(cli::Cli::parse()) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("{}", error.for_people());
            ExitCode::from(error.status())
        }
    }
}
