//! What `opshook doctor` is asked for.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

pub(crate) const HELP: &str = "\
It changes nothing, sends no secret anywhere, and prints none. Each check is a line that begins with ok, warn or FAIL, says \
what was seen and, where something is wrong, how to mend it. Run it as root, so that it can read the files.

What is checked: the settings of each function, by the function itself; the modes of the files and what secrets they hold; \
/health and /ready where each function listens; the tables, and that receive and query-events see the same; on the portal's \
host also that ops is reached, knows the secret (by a signed request that makes nothing) and has the same time, and what \
waits, is parked or dead in the outbox. With --data-dir also the free space there.

Settings come from the --env-file files, a later one over an earlier one, as systemd reads them for the services; then the \
environment of this shell counts for nothing. A file that is named after a function, such as receive.env, holds for that \
function alone, and so does FUNCTION=FILE. Without files they come from the environment, and with the --data-dir of \
`opshook up` from there, too.

Examples:
  opshook doctor ops --env-file /etc/opshook/receive.env --env-file /etc/opshook/query-events.env
  opshook doctor portal --env-file emit-retry=/etc/opshook/portal.env --data-dir /var/lib/opshook
  opshook doctor --data-dir .opshook                  what `opshook up` started here
  opshook doctor portal --json | jq '.checks[] | select(.status != \"ok\")'

Exit status: 0 nothing failed (a warning is no failure), 1 a check failed, 2 wrong usage.";

/// The hosts that functions run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HostName {
    /// Where emit-retry runs, beside the portal
    Portal,
    /// Where receive and query-events run
    Ops,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorOptions {
    /// Which host this is [default: what the settings say]
    #[arg(value_enum)]
    pub(crate) host: Option<HostName>,
    /// A file of settings, as systemd's EnvironmentFile=; for one function alone where it is named after it or so says
    #[arg(long = "env-file", value_name = "[FUNCTION=]FILE", value_parser = env_file)]
    pub(crate) env_files: Vec<NamedFile>,
    /// Where the data is: its free space, and the settings where it is the directory of `opshook up`
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where the receive of `opshook up` listens, as it was told
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", requires = "data_dir")]
    pub(crate) receive_addr: SocketAddr,
    /// Where its query-events listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081", requires = "data_dir")]
    pub(crate) query_addr: SocketAddr,
    /// Where its emit-retry listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8082", requires = "data_dir")]
    pub(crate) emit_addr: SocketAddr,
    /// Where its engine listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000", requires = "data_dir")]
    pub(crate) dynamodb_addr: SocketAddr,
    /// Prints one JSON object: {"ok","failed","warned","checks":[{"check","status","saw","remedy"}]}
    #[arg(long)]
    pub(crate) json: bool,
}

/// A file, and whose settings it holds; none where it holds for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedFile {
    pub(crate) function: Option<&'static str>,
    pub(crate) path: PathBuf,
}

fn env_file(text: &str) -> Result<NamedFile, String> {
    let named = |name: &str| super::host::FUNCTIONS.into_iter().find(|function| *function == name);
    let (function, path) = match text.split_once('=').and_then(|(name, path)| Some((named(name)?, path))) {
        Some((function, path)) => (Some(function), PathBuf::from(path)),
        None => {
            let path = PathBuf::from(text);
            (path.file_stem().and_then(|stem| stem.to_str()).and_then(named), path)
        }
    };
    if path.as_os_str().is_empty() { Err("names no file".to_owned()) } else { Ok(NamedFile { function, path }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_for_all_unless_it_is_named_after_a_function() {
        let named = |function, path: &str| Ok(NamedFile { function, path: path.into() });
        assert_eq!(env_file("/etc/opshook/ops.env"), named(None, "/etc/opshook/ops.env"));
        assert_eq!(env_file("/etc/receive.env"), named(Some("receive"), "/etc/receive.env"));
        assert_eq!(env_file("emit-retry=/etc/a=b.env"), named(Some("emit-retry"), "/etc/a=b.env"));
        assert_eq!(env_file("/etc/a=b.env"), named(None, "/etc/a=b.env"));
        assert!(env_file("receive=").is_err() && env_file("").is_err());
    }
}
