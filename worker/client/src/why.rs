//! `sourdough why`: where a job stands, in one sentence, and what that is concluded from.
//!
//! [`gather`] asks the server, [`decide`] concludes, [`standing`] says it.

mod decide;
mod details;
mod facts;
mod gather;
mod standing;

use std::io::{self, Write as _};
use std::process::ExitCode;

use serde_json::json;

use crate::args::Why;
use crate::server::Server;
use crate::{exit, outcome};
use decide::decide;
use facts::Facts;

/// Says it.
pub(crate) async fn run(why: &Why) -> anyhow::Result<ExitCode> {
    let job = why.job.name();
    let server = Server::connect(&why.job.servers).await?;
    let facts = Box::pin(gather::gather(&server, &job)).await?;
    let standing = decide(&facts);
    if why.json {
        outcome::print_json(&json!({
            "job_id": job.id, "tenant": job.tenant, "standing": standing, "sentence": standing.sentence(&job),
            "details": details::rows(&facts), "not_known": facts.not_known,
        }))?;
    } else {
        print(&standing.sentence(&job), &facts)?;
    }
    Ok(if standing.is_known() {
        ExitCode::SUCCESS
    } else {
        exit::not_found("check the id and --tenant")
    })
}

/// The sentence, and below it what it was concluded from.
fn print(sentence: &str, facts: &Facts) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{sentence}")?;
    for row in details::rows(facts) {
        writeln!(out, "  {:<9} {}", row.about, row.text)?;
    }
    for question in &facts.not_known {
        writeln!(out, "  not known {question}")?;
    }
    Ok(())
}
