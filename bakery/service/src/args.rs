//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use schemas::{KeyPrefix, Token, Trust};

use crate::permissions::{KeyArgument, PublicKey};

/// Makes the snapshots that builds are forked from.
#[derive(Debug, Parser)]
#[command(name = "bakery", version)]
pub struct Args {
    /// The configuration.
    #[arg(
        long,
        env = "SOURDOUGH_BAKERY_CONFIG",
        default_value = "/etc/sourdough/bakery.toml",
        value_name = "FILE"
    )]
    pub config: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the streams and buckets that everybody else finds. May be run again at any time.
    Init,
    /// Put definitions of templates, environments and tenants, as JSON files. One bad file, and none is put.
    Apply {
        /// The files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Whose the environments are; templates are the operator's.
        #[arg(long, env = "SOURDOUGH_TENANT", value_name = "NAME")]
        tenant: Option<Token>,
        /// Print what became of each as JSON on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Ask for a bake of an environment for this host's class, and wait for it.
    Bake(Bake),
    /// Take requests and bake, until told to end.
    Serve {
        /// Log in JSON, whatever the configuration says.
        #[arg(long)]
        json: bool,
    },
    /// List the snapshots there are.
    List {
        /// Print them as JSON on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Print all that is known of one snapshot: its contents, its packages, how it was checked, who uses it.
    Inspect {
        /// Its key, or at least the first 6 digits of it.
        #[arg(value_name = "KEY")]
        key: KeyPrefix,
        /// Print it as JSON on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Take away the snapshots and chunks that nobody needs.
    Gc {
        /// Only tell what would go.
        #[arg(long)]
        dry_run: bool,
        /// Print what went as JSON on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Print the accounts of a tenant on the NATS server, to be added to `tenants.conf` beside `server.conf`.
    Permissions(Permissions),
    /// List the registries in the configuration, or propose some for it.
    Registries {
        /// Ask the package managers of this host what they download from, and print that as settings for the configuration.
        #[arg(long)]
        detect: bool,
        /// Print them as JSON on standard output.
        #[arg(long)]
        json: bool,
    },
}

/// Ask for a bake.
#[derive(Debug, clap::Args)]
pub struct Bake {
    /// The environment.
    #[arg(value_name = "NAME")]
    pub environment: Token,
    /// The tree that its inputs are taken from.
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub dir: PathBuf,
    /// Whose environment it is.
    #[arg(
        long,
        env = "SOURDOUGH_TENANT",
        default_value = "default",
        value_name = "NAME"
    )]
    pub tenant: Token,
    /// How far the tree's author is trusted: trusted or untrusted.
    #[arg(
        long,
        env = "SOURDOUGH_TRUST",
        default_value = "untrusted",
        value_name = "TRUST"
    )]
    pub trust: Trust,
    /// Print the last event as JSON on standard output, in place of the key.
    #[arg(long)]
    pub json: bool,
}

/// Print the accounts of a tenant.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("keys").required(true).multiple(true))]
pub struct Permissions {
    /// Whose they are.
    #[arg(long, env = "SOURDOUGH_TENANT", value_name = "NAME")]
    pub tenant: Token,
    /// On which workers its jobs run.
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub pool: Token,
    /// The public key of who publishes its trusted jobs. May be given again, while one key takes the place of another.
    #[arg(long, group = "keys", value_name = "KEY", value_parser = KeyArgument)]
    pub trusted: Vec<PublicKey>,
    /// The public key of who publishes its untrusted jobs.
    #[arg(long, group = "keys", value_name = "KEY", value_parser = KeyArgument)]
    pub untrusted: Vec<PublicKey>,
    /// The public key of who reads what came of its jobs.
    #[arg(long, group = "keys", value_name = "KEY", value_parser = KeyArgument)]
    pub subscriber: Vec<PublicKey>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_seed_in_the_place_of_a_key_is_not_repeated() {
        let seed = format!("SU{}", "A".repeat(56));
        let line = [
            "bakery",
            "permissions",
            "--tenant",
            "acme",
            "--trusted",
            &seed,
        ];
        let said = Args::try_parse_from(line).unwrap_err().to_string();
        assert!(said.contains("--trusted <KEY>: is a seed"), "{said}");
        assert!(!said.contains(&seed), "{said}");
    }

    #[test]
    fn apply_takes_files_and_a_tenant() {
        let args = [
            "bakery", "--config", "c", "apply", "a", "b", "--tenant", "acme",
        ];
        let args = Args::try_parse_from(args).unwrap();
        let Command::Apply { files, tenant, .. } = args.command else {
            panic!("apply was asked for")
        };
        assert_eq!((files.len(), tenant.unwrap().as_str()), (2, "acme"));
        assert!(Args::try_parse_from(["bakery", "apply"]).is_err());
    }

    #[test]
    fn a_key_is_given_by_its_first_digits() {
        let args = Args::try_parse_from(["bakery", "inspect", "0123ab", "--json"]).unwrap();
        let Command::Inspect { key, json } = args.command else {
            panic!("inspect was asked for")
        };
        assert_eq!((key.to_string().as_str(), json), ("0123ab", true));
        for bad in ["0123", "widget"] {
            assert!(Args::try_parse_from(["bakery", "inspect", bad]).is_err());
        }
    }

    #[test]
    fn permissions_are_printed_for_at_least_one_key() {
        let key = format!("U{}", "A".repeat(55));
        let tenant = ["bakery", "permissions", "--tenant", "acme"];
        assert!(Args::try_parse_from(tenant).is_err());
        let given = tenant.into_iter().chain(["--untrusted", &key]);
        let Command::Permissions(asked) = Args::try_parse_from(given).unwrap().command else {
            panic!("permissions were asked for")
        };
        assert_eq!(asked.pool.as_str(), "default");
        assert_eq!((asked.untrusted.len(), asked.subscriber.len()), (1, 0));
    }
}
