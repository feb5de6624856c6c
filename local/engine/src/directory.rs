//! A data directory, held by one engine at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use dynoxide::Database;

use crate::{EngineError, Storage};

/// A database and, after it, the lock on its directory: fields are dropped in this order, so nobody else can open the
/// database before it is closed here.
pub(crate) struct Store {
    pub(crate) db: Database,
    _lock: Option<Lock>,
}

/// An exclusive lock, released when it is dropped or its process ends, however that happens.
pub(crate) struct Lock {
    file: File,
    dir: PathBuf,
}

/// Takes the lock of a directory. There is none in memory.
pub(crate) fn lock(storage: &Storage) -> Result<Option<Lock>, EngineError> {
    match storage {
        Storage::Memory => Ok(None),
        Storage::Directory(dir) => Lock::take(dir).map(Some),
    }
}

/// Opens the database that `lock` guards, or one in memory, and says in the lock where it is served.
pub(crate) fn open(lock: Option<Lock>, address: SocketAddr) -> Result<Store, EngineError> {
    let Some(mut lock) = lock else {
        let db = Database::memory()
            .map_err(|error| EngineError::Database { path: ":memory:".into(), reason: error.to_string() })?;
        return Ok(Store { db, _lock: None });
    };
    let path = lock.dir.join("opshook.db");
    // SQLite would make it readable by all; its journal files take the mode of this one.
    private_file(&path).map_err(|error| unusable(&path, &error))?;
    let Some(text) = path.to_str() else {
        return Err(EngineError::Directory { path, reason: "its name is not Unicode".into() });
    };
    let db =
        Database::new(text).map_err(|error| EngineError::Database { path: path.clone(), reason: error.to_string() })?;
    lock.say(&format!("process {}, listening on {address}", std::process::id()));
    Ok(Store { db, _lock: Some(lock) })
}

impl Lock {
    fn take(dir: &Path) -> Result<Self, EngineError> {
        if dir.exists() && !dir.is_dir() {
            return Err(EngineError::Directory { path: dir.to_owned(), reason: "it is not a directory".into() });
        }
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| unusable(dir, &error))?;
        let path = dir.join("lock");
        let mut file = private_file(&path).map_err(|error| unusable(&path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(EngineError::Held { dir: dir.to_owned(), holder: holder(&mut file) });
            }
            Err(TryLockError::Error(error)) => return Err(unusable(&path, &error)),
        }
        let mut lock = Self { file, dir: dir.to_owned() };
        lock.say(&format!("process {}", std::process::id()));
        Ok(lock)
    }

    /// Writes who holds the lock. It is only for people, so a full disk is no reason to fail.
    fn say(&mut self, holder: &str) {
        let _ = self.file.set_len(0);
        let _ = self.file.rewind();
        let _ = writeln!(self.file, "{holder}");
    }
}

/// What the holder wrote about itself; at most 200 bytes, it is somebody else's file.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(200).read_to_string(&mut text);
    match text.trim() {
        holder if read.is_ok() && !holder.is_empty() && !holder.contains(char::is_control) => holder.to_owned(),
        _ => "another process".to_owned(),
    }
}

/// Opens a file, made for its owner alone if it is missing.
fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn unusable(path: &Path, error: &io::Error) -> EngineError {
    let reason = match error.kind() {
        ErrorKind::PermissionDenied => "it can't be read and written by this user".to_owned(),
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => "a part of its path is not a directory".to_owned(),
        ErrorKind::IsADirectory => "it is a directory".to_owned(),
        ErrorKind::Unsupported => "its file system has no locks".to_owned(),
        _ => error.to_string(),
    };
    EngineError::Directory { path: path.to_owned(), reason }
}
