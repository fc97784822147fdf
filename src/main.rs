//! The `orfeas` binary: one program for every role; see `orfeas help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    orfeas::cli::main()
}
