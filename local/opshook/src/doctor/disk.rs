//! Free space where the data is: with a full disk each function answers 503.

use std::path::Path;

use rustix::fs::statvfs;

use super::finding::Finding;

const CHECK: &str = "disk";
const MIB: u64 = 1024 * 1024;
const FULL: u64 = 256 * MIB;
const NEARLY_FULL: u64 = 1024 * MIB;

pub(crate) fn check(dir: &Path) -> Finding {
    let shown = dir.display().to_string();
    match statvfs(dir) {
        Ok(disk) => judged(&shown, disk.f_bavail.saturating_mul(disk.f_frsize)),
        Err(error) => {
            let saw = format!("{shown} can't be looked at: {}", std::io::Error::from(error));
            Finding::fail(CHECK, saw, "name the directory of the data with --data-dir")
        }
    }
}

fn judged(dir: &str, free: u64) -> Finding {
    let saw = format!("{} MiB are free for {dir}", free / MIB);
    let remedy = "make room on that disk, or move the data to a larger one";
    match free {
        ..FULL => Finding::fail(CHECK, saw, remedy),
        FULL..NEARLY_FULL => Finding::warn(CHECK, saw, remedy),
        NEARLY_FULL.. => Finding::ok(CHECK, saw),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Status;

    #[test]
    fn little_room_is_a_warning_and_none_a_fault() {
        for (free, status) in [(0, Status::Fail), (FULL, Status::Warn), (NEARLY_FULL, Status::Ok)] {
            assert_eq!(judged("/data", free).status, status);
        }
    }
}
