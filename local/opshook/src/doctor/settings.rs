//! The settings themselves, the files that they stand in, and secrets that are none.

use std::collections::BTreeSet;

use contract::signature::Secrets;

use super::env_file::EnvFile;
use super::finding::Finding;
use super::host::{Function, Host};

/// What is for nobody else's eyes.
const SECRETS: [&str; 5] =
    ["WEBHOOK_SECRET", "OPS_WEBHOOK_SECRET", "OPS_API_TOKEN", "EMIT_API_TOKEN", "AWS_SECRET_ACCESS_KEY"];
/// A random token has more different characters than this.
const FEW_CHARACTERS: usize = 8;
/// Words by which people mark what is to be replaced.
const PLACEHOLDERS: [&str; 4] = ["change", "replace", "example", "password"];

pub(crate) fn check(host: &Host) -> Vec<Finding> {
    let files = host.files.iter().flat_map(of_file);
    let functions = host.functions.iter().flat_map(|function| of_function(function));
    files.chain(functions).collect()
}

fn of_file(file: &EnvFile) -> Vec<Finding> {
    let path = file.shown();
    let mut findings = Vec::new();
    for line in &file.text.left_out {
        findings.push(Finding::fail(
            "settings file",
            format!("line {line} of {path} is no setting, and systemd leaves it out"),
            "write NAME=value, without `export`, and close each quote",
        ));
    }
    let holds_secrets = SECRETS.iter().any(|name| file.text.values.contains_key(*name));
    let saw = format!("{path} has mode {:04o}", file.mode);
    if holds_secrets && file.mode & 0o077 != 0 {
        let saw = format!("{saw}, and holds a secret that others can read");
        findings.push(Finding::fail("settings file", saw, format!("chmod 600 {path}")));
    } else if file.mode & 0o022 != 0 {
        findings.push(Finding::fail(
            "settings file",
            format!("{saw}: others can write it"),
            format!("chmod go-w {path}"),
        ));
    } else if !file.is_ours() {
        let saw = format!("{path} belongs to user id {}, who can change it", file.owner);
        findings.push(Finding::warn("settings file", saw, format!("chown root:root {path}")));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("settings file", saw));
    }
    findings
}

fn of_function(function: &Function) -> Vec<Finding> {
    let name = function.name;
    let check = format!("{name} settings");
    if let Err(error) = &function.config {
        let remedy = |setting: &str| format!("set {setting} so, then start {} again", function.program);
        return error
            .faults()
            .map(|(setting, fault)| Finding::fail(&check, format!("{setting}: {fault}"), remedy(setting)))
            .collect();
    }
    let weak: Vec<Finding> = SECRETS.iter().filter_map(|setting| weakness(function, setting)).collect();
    if weak.is_empty() { vec![Finding::ok(check, "all are there and can be read")] } else { weak }
}

/// What is wrong with a secret that is well formed.
fn weakness(function: &Function, setting: &str) -> Option<Finding> {
    let of_other = match function.name {
        "receive" => setting != "WEBHOOK_SECRET",
        "query-events" => setting != "OPS_API_TOKEN",
        _ => !["OPS_WEBHOOK_SECRET", "EMIT_API_TOKEN"].contains(&setting),
    };
    let text = function.environment.get(setting).filter(|_| !of_other)?;
    let check = format!("{} settings", function.name);
    if setting.ends_with("_SECRET") {
        let secrets = Secrets::parse(&text).ok()?;
        return secrets.contains_development_secret().then(|| {
            let saw = format!("{setting} holds the development secret, which everyone knows");
            Finding::warn(check, saw, format!("put one of `opshook secret new` into {setting}, on both ends"))
        });
    }
    let between = |c: char| c.is_whitespace() || c == ',';
    text.split(between).filter(|token| !token.is_empty()).any(is_made_up).then(|| {
        let saw = format!("{setting} holds a token that looks made up");
        Finding::fail(check, saw, format!("put a random one into {setting}: openssl rand -hex 32"))
    })
}

/// Whether a person wrote it, and no generator.
fn is_made_up(token: &str) -> bool {
    let lower = token.to_ascii_lowercase();
    let different: BTreeSet<char> = lower.chars().collect();
    different.len() < FEW_CHARACTERS || PLACEHOLDERS.iter().any(|word| lower.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_a_person_made_up_are_known() {
        for token in ["aaaaaaaaaaaaaaaaaaaaaaaaaaaa", "CHANGE-ME-CHANGE-ME-CHANGE-ME", "12341234123412341234123412"] {
            assert!(is_made_up(token), "{token}");
        }
        let digits: String = (0..64).map(|n| format!("{:x}", n * 7 % 16)).collect();
        assert!(!is_made_up(&digits));
    }
}
