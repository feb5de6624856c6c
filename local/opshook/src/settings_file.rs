//! `settings.env` in the data directory: the secret and the token that `opshook up` made, for its owner alone.
//!
//! Its lines are `NAME=value`, so that a shell can read it (`. .opshook/settings.env`) and systemd too. What someone
//! adds to it holds as well; the environment wins over it.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use service::host::Environment;

use crate::outcome::Failure;
use crate::secret::{new_secret, new_token};

const NAME: &str = "settings.env";
const OWNER_ONLY: u32 = 0o600;
const HEADER: &str =
    "# Made by `opshook up`. Secret: readable by its owner only. The environment wins over this file.\n";

/// The file as it was read; empty when it isn't there.
#[derive(Clone, Default)]
pub(crate) struct SettingsFile {
    path: PathBuf,
    exists: bool,
    text: String,
    values: BTreeMap<String, String>,
}

impl SettingsFile {
    /// Reads the file of a data directory.
    ///
    /// # Errors
    ///
    /// It can't be read, or a line of it is no setting; the words hold no value.
    pub(crate) fn read(data_dir: &Path) -> Result<Self, Failure> {
        let path = data_dir.join(NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self { path, ..Self::default() }),
            Err(error) => return Err(unusable(&path, &error)),
        };
        let values = parse(&text).map_err(|line| {
            Failure::usage(format!("{}:{line}: must be NAME=value, a comment or empty", path.display()))
        })?;
        Ok(Self { path, exists: true, text, values })
    }

    /// Reads the file, and makes what is neither there nor in the environment: `WEBHOOK_SECRET`, `OPS_API_TOKEN`. The
    /// directory is made (mode 0700) when it is missing; the file is replaced as a whole or not at all.
    ///
    /// # Errors
    ///
    /// As [`SettingsFile::read`], and when the directory or the file can't be written.
    pub(crate) fn read_or_make(data_dir: &Path) -> Result<Self, Failure> {
        let unusable_dir = |error| unusable(data_dir, &error);
        DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(unusable_dir)?;
        // Two that start at once must not make two secrets.
        let dir = File::open(data_dir).map_err(unusable_dir)?;
        dir.lock().map_err(unusable_dir)?;
        let file = Self::read(data_dir)?;
        if file.exists {
            // Whoever could read it before, it is secret.
            fs::set_permissions(&file.path, Permissions::from_mode(OWNER_ONLY))
                .map_err(|e| unusable(&file.path, &e))?;
        }
        let environment = file.environment();
        let mut made = String::new();
        if environment.get("WEBHOOK_SECRET").is_none() {
            made.push_str(&format!("WEBHOOK_SECRET={}\n", new_secret()?.expose()));
        }
        if environment.get("OPS_API_TOKEN").is_none() {
            made.push_str(&format!("OPS_API_TOKEN={}\n", new_token()?));
        }
        if made.is_empty() {
            return Ok(file);
        }
        let kept = if file.exists { file.text.as_str() } else { HEADER };
        let line_end = if kept.is_empty() || kept.ends_with('\n') { "" } else { "\n" };
        replace(&file.path, &dir, &format!("{kept}{line_end}{made}")).map_err(|error| unusable(&file.path, &error))?;
        Self::read(data_dir)
    }

    /// Where it is, if there is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.exists.then_some(self.path.as_path())
    }

    /// The environment of this process, and where that says nothing, this file.
    pub(crate) fn environment(&self) -> Environment {
        let (process, values) = (Environment::process(), self.values.clone());
        Environment::from_fn(move |name| process.get(name).or_else(|| values.get(name).cloned()))
    }
}

/// The settings in a text, or the number of the first line that is none.
fn parse(text: &str) -> Result<BTreeMap<String, String>, usize> {
    let mut values = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or(index + 1)?;
        let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        if name.is_empty() || !name.bytes().all(allowed) {
            return Err(index + 1);
        }
        values.insert(name.to_owned(), unquoted(value).to_owned());
    }
    Ok(values)
}

fn unquoted(value: &str) -> &str {
    let within = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    within('"').or_else(|| within('\'')).unwrap_or(value)
}

/// Writes a file so that after a crash there is the old one or the new one, and nobody else can read either.
fn replace(path: &Path, dir: &File, text: &str) -> io::Result<()> {
    let new = path.with_extension("env.new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    dir.sync_all()
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    let reason = match error.kind() {
        ErrorKind::PermissionDenied => "this user may not".to_owned(),
        ErrorKind::InvalidData => "it is not text".to_owned(),
        _ => error.to_string(),
    };
    Failure::failed(format!("can't read or write {}: {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn what_is_missing_is_made_once_and_only_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b");
        let first = SettingsFile::read_or_make(&data).unwrap();
        let path = first.path().unwrap().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(contract::signature::Secrets::parse(&first.values["WEBHOOK_SECRET"]).is_ok());
        assert_eq!(first.values["OPS_API_TOKEN"].len(), 64);
        assert!(first.text.starts_with("# "), "a comment stands on top");

        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let again = SettingsFile::read_or_make(&data).unwrap();
        assert_eq!(again.text, first.text);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn what_someone_wrote_is_kept_and_what_is_missing_is_added() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        fs::write(&path, "# mine\nexport TICKET_EVENTS='a.b,c'\nOPS_API_TOKEN=\"0123456789abcdef01234567\"").unwrap();
        let file = SettingsFile::read_or_make(dir.path()).unwrap();
        assert_eq!(file.environment().get("TICKET_EVENTS").as_deref(), Some("a.b,c"));
        assert_eq!(file.environment().get("OPS_API_TOKEN").as_deref(), Some("0123456789abcdef01234567"));
        assert!(file.environment().get("WEBHOOK_SECRET").is_some());
        assert!(file.text.starts_with("# mine\n"));
    }

    #[test]
    fn a_line_that_is_no_setting_is_named_by_its_number_and_not_quoted() {
        let dir = tempfile::tempdir().unwrap();
        for wrong in ["whsec_abc", "webhook_secret=whsec_abc", "=whsec_abc", "A B=whsec_abc"] {
            fs::write(dir.path().join(NAME), format!("# one\n\n{wrong}\n")).unwrap();
            let failure = SettingsFile::read(dir.path()).err().unwrap();
            assert_eq!(failure.status, 2);
            assert!(failure.text.contains("settings.env:3:") && !failure.text.contains("abc"), "{}", failure.text);
        }
    }

    #[test]
    fn many_that_start_at_once_agree() {
        let dir = tempfile::tempdir().unwrap();
        let make = || SettingsFile::read_or_make(dir.path()).unwrap().text;
        let texts: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(texts.iter().all(|text| *text == texts[0]));
    }
}
