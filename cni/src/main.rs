//! `outbye-cni`: the plugin binary. Everything it does stands in [`cni::plugin`].

use std::{
    io::{self, Read, Write},
    process::ExitCode,
};

use cni::plugin::{self, Environment};

fn main() -> ExitCode {
    let mut stdin = String::new();
    let answer = match io::stdin().read_to_string(&mut stdin) {
        Ok(_) => plugin::run(&Environment::read(), &stdin),
        // What is not text is not JSON.
        Err(_) => plugin::run(&Environment::read(), "\u{0}"),
    };
    let (output, code) = match answer {
        Ok(output) => (output, ExitCode::SUCCESS),
        Err(err) => (Some(err.to_json()), ExitCode::FAILURE),
    };
    match output.map(|it| writeln!(io::stdout(), "{it}")) {
        Some(Err(_)) => ExitCode::FAILURE,
        Some(Ok(())) | None => code,
    }
}
