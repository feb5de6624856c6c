//! Reads settings, and reports everything that is wrong with them at once (contract §7).

use std::fmt;
use std::net::SocketAddr;

use contract::signature::Secrets;

use crate::auth::Tokens;
use crate::host::Environment;

/// Every setting that is missing or wrong, by name. Never holds a value: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError(Vec<(String, String)>);

impl SettingsError {
    /// One setting that is at fault. `fault` must not repeat the value.
    pub fn of(name: &str, fault: impl Into<String>) -> Self {
        Self(vec![(name.to_owned(), fault.into())])
    }

    /// The names of the settings that are at fault.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.faults().map(|(name, _)| name)
    }

    /// The settings that are at fault, each with what is wrong.
    pub fn faults(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, fault)| (name.as_str(), fault.as_str()))
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, fault)) in self.0.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{name}: {fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsError {}

/// Reads one setting after the other and gathers the faults. Where a setting is at fault its default stands in, so that
/// the ones after it are read too; [`Reader::finish`] then says no.
#[derive(Debug)]
pub struct Reader<'a> {
    environment: &'a Environment,
    faults: Vec<(String, String)>,
}

impl<'a> Reader<'a> {
    /// A reader of `environment`.
    pub fn new(environment: &'a Environment) -> Self {
        Self { environment, faults: Vec::new() }
    }

    /// The text of a setting, if it is there.
    pub fn text(&self, name: &str) -> Option<String> {
        self.environment.get(name)
    }

    /// Notes that `name` is at fault. `fault` must not repeat the value.
    pub fn fault(&mut self, name: &str, fault: impl Into<String>) {
        self.faults.push((name.to_owned(), fault.into()));
    }

    /// A setting read by `parse`, or `default` where it is absent.
    pub fn parsed<T>(&mut self, name: &str, default: T, parse: impl FnOnce(&str) -> Result<T, String>) -> T {
        let Some(text) = self.text(name) else { return default };
        match parse(text.trim()) {
            Ok(value) => value,
            Err(fault) => {
                self.fault(name, fault);
                default
            }
        }
    }

    /// `LISTEN_ADDR`: an IP address with a port, such as `127.0.0.1:8080`.
    pub fn listen_addr(&mut self, default: SocketAddr) -> SocketAddr {
        self.parsed("LISTEN_ADDR", default, |text| {
            text.parse().map_err(|_| format!("must be an IP address and a port, such as {default}"))
        })
    }

    /// Whether what listens on `address` can be reached from this machine alone. Never so on Lambda.
    pub fn is_loopback(&self, address: SocketAddr) -> bool {
        address.ip().is_loopback() && !self.environment.on_lambda
    }

    /// `true` or `false`.
    pub fn flag(&mut self, name: &str, default: bool) -> bool {
        self.parsed(name, default, |text| match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err("must be true or false".to_owned()),
        })
    }

    /// A whole number of days within `range`.
    pub fn days(&mut self, name: &str, default: u32, range: std::ops::RangeInclusive<u32>) -> u32 {
        self.parsed(name, default, |text| {
            text.parse()
                .ok()
                .filter(|days| range.contains(days))
                .ok_or_else(|| format!("must be a whole number of days from {} to {}", range.start(), range.end()))
        })
    }

    /// `TABLE_PREFIX`: what the tables' names begin with; at most 100 of `[A-Za-z0-9_.-]`.
    pub fn table_prefix(&mut self) -> String {
        self.parsed("TABLE_PREFIX", "opshook_".to_owned(), |text| {
            let fits = text.len() <= 100 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
            fits.then(|| text.to_owned()).ok_or_else(|| "must be at most 100 of A-Z a-z 0-9 _ . -".to_owned())
        })
    }

    /// Takes over what another part of the program read, or its faults.
    pub fn gathered<T>(&mut self, read: Result<T, Vec<(&'static str, String)>>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(faults) => {
                faults.into_iter().for_each(|(name, fault)| self.fault(name, fault));
                None
            }
        }
    }

    /// One or more Standard Webhooks secrets, newest first. The development secret is refused unless `local`.
    pub fn secrets(&mut self, name: &str, local: bool) -> Option<Secrets> {
        let Some(text) = self.text(name) else {
            self.fault(name, "is required: one or more secrets as `opshook secret new` prints, newest first");
            return None;
        };
        match Secrets::parse(&text) {
            Ok(secrets) if secrets.contains_development_secret() && !local => {
                self.fault(
                    name,
                    "holds the development secret, which is for loopback alone: make one with `opshook secret new`",
                );
                None
            }
            Ok(secrets) => Some(secrets),
            Err(fault) => {
                self.fault(name, fault);
                None
            }
        }
    }

    /// One or more bearer tokens, newest first; `None` where the setting is absent or at fault.
    pub fn tokens(&mut self, name: &str) -> Option<Tokens> {
        let text = self.text(name)?;
        match Tokens::parse(&text) {
            Ok(tokens) => Some(tokens),
            Err(fault) => {
                self.fault(name, fault);
                None
            }
        }
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// All faults, where there was one.
    pub fn finish(self) -> Result<(), SettingsError> {
        self.finish_with(Some(()), |()| ())
    }

    /// Ends the reading: makes the settings of what had to be there.
    ///
    /// # Errors
    /// All faults, where there was one.
    pub fn finish_with<R, T>(self, required: Option<R>, make: impl FnOnce(R) -> T) -> Result<T, SettingsError> {
        match required {
            Some(required) if self.faults.is_empty() => Ok(make(required)),
            _ => Err(SettingsError(self.faults)),
        }
    }
}
