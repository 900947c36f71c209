//! The program; all of it is in the library beside it, so that its manual can be written from what it is.

use std::process::ExitCode;

fn main() -> ExitCode {
    nightsafe::main()
}
