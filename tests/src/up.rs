//! `make up` and `make down`: a stack that stays.

use std::process::ExitCode;

use anyhow::Result;

use crate::progress::Progress;
use crate::stack::{Record, Stack, StackOptions};
use crate::state::State;

/// Starts a stack and leaves it running. Standard output is for a shell to read: `eval "$(make -s up)"`.
pub async fn up(options: StackOptions, state: &State) -> Result<ExitCode> {
    let directory = &options.directory;
    if let Some(record) = Record::read(directory)?.filter(Record::is_running) {
        eprintln!("A stack runs already, in {}.", directory.display());
        print!("{}", exports(&record.environment));
        return Ok(ExitCode::SUCCESS);
    }
    let mut progress = Progress::start();
    let stack = Stack::start(&options, state, &mut progress).await?;
    let record = stack.detach(directory)?;
    eprint!("\n{}", progress.table());
    eprintln!(
        "\nIt is left running, in {}; `make down` stops it.",
        directory.display()
    );
    print!("{}", exports(&record.environment));
    Ok(ExitCode::SUCCESS)
}

/// Stops what [`up`] left running.
pub async fn down(options: &StackOptions) -> Result<ExitCode> {
    match Record::read(&options.directory)? {
        Some(record) => {
            record.stop(&options.directory).await?;
            eprintln!("It is stopped.");
        }
        None => eprintln!("No stack runs in {}.", options.directory.display()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Lines for a shell. None of the values holds a quote: addresses, hexadecimal digits and names.
fn exports(environment: &[(String, String)]) -> String {
    let lines = environment
        .iter()
        .map(|(name, value)| format!("export {name}='{value}'\n"));
    lines.collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_printed_for_a_shell() {
        let environment = [("A".to_owned(), "b c".to_owned())];
        assert_eq!(exports(&environment), "export A='b c'\n");
    }
}
