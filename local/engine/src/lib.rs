//! The embedded engine: DynamoDB's protocol on a loopback port, on SQLite, in this process.
//!
//! - [`Engine`] starts it and stops it: a thread with a runtime of its own.
//! - [`Storage`] says where the data is: in memory, or in a directory that one engine at a time may hold.
//! - [`answer`] is the protocol itself, with no socket: an operation's name and its JSON in, a status and JSON out.
//!
//! What speaks HTTP here is ours and not the server that comes with dynoxide: that one lets every web page in
//! (`Access-Control-Allow-Origin: *`) and runs SQLite on the async worker, where each sync stalls every timer.

mod answer;
mod describe;
mod directory;
mod server;
mod thread;

pub use answer::answer;
pub use thread::Engine;

use std::net::SocketAddr;
use std::path::PathBuf;

/// Where the engine keeps its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// Nowhere: the data ends with the engine.
    Memory,
    /// In `opshook.db` in this directory, each commit synced to the disk. The directory is made (mode 0700) when it is
    /// missing. Its file `lock` is locked for as long as the engine has the database open.
    Directory(PathBuf),
}

/// Why the engine could not start. Each is one line that says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Another engine, in this process or another, has the directory.
    #[error("{} is in use by {holder}; stop that first, or choose another data directory", dir.display())]
    Held {
        /// The directory.
        dir: PathBuf,
        /// Who has it, such as `process 4711, listening on 127.0.0.1:8000`.
        holder: String,
    },
    /// The directory, or a file in it, can't be used.
    #[error("can't use {} for data: {reason}", path.display())]
    Directory {
        /// The directory or the file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The database's file is damaged, or from a newer version.
    #[error("can't open the database {}: {reason}; move it away or restore it from a backup", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// The engine asks for no credentials, so only this machine may reach it.
    #[error("the embedded engine listens on loopback only, not on {0}; take an address such as 127.0.0.1:8000")]
    NotLoopback(SocketAddr),
    /// The address can't be listened on.
    #[error("can't listen on {address}: {reason}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// Such as `the port is in use by another program`.
        reason: String,
    },
    /// The operating system gave no thread or no timer.
    #[error("can't start the embedded engine: {0}")]
    Thread(std::io::Error),
}
