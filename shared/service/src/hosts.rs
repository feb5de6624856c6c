//! Who may ask a function that no token guards: programs on this machine, and no web page in a browser on it. A page's request
//! has its `Origin`, or, where a page's name was made to point here (DNS rebinding), that name in `Host`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, Uri, header};

use crate::problem::{Code, Problem};

/// The names by which a function may be asked for, beside loopback's own.
#[derive(Debug, Clone, Default)]
pub struct Hosts(Arc<[String]>);

impl Hosts {
    /// Reads host names or addresses without ports, with commas or white space between them.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let names: Vec<String> = text
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|name| !name.is_empty())
            .map(|name| name.trim_end_matches('.').to_ascii_lowercase())
            .collect();
        let is_name = |name: &String| {
            let is_host = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
            name.parse::<IpAddr>().is_ok() || (!name.is_empty() && name.len() <= 253 && name.bytes().all(is_host))
        };
        if names.iter().all(is_name) {
            Ok(Self(names.into()))
        } else {
            Err("must be host names without scheme and port, such as portal.internal; several with commas".to_owned())
        }
    }

    /// Lets a request in whose `Host` and target name this machine or one of these names, and whose `Origin`, if it has one, is
    /// the same.
    ///
    /// # Errors
    /// A 403: `host_not_allowed` or `origin_not_allowed`.
    pub fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let hosts: Vec<&str> = headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or("")).collect();
        let target = uri.authority().map(|authority| authority.as_str());
        if !hosts.iter().copied().chain(target).all(|host| self.allows(host)) {
            let detail = "without a token this server answers only to a loopback address, to localhost and to the names in \
                          ALLOWED_HOSTS: ask for one of these, or set EMIT_API_TOKEN";
            return Err(Problem::new(Code::HostNotAllowed, detail));
        }
        let is_same = |origin: &str| {
            let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            authority.is_some_and(|authority| hosts.iter().any(|host| host.eq_ignore_ascii_case(authority)))
        };
        if !headers.get_all(header::ORIGIN).iter().all(|origin| origin.to_str().is_ok_and(is_same)) {
            let detail = "without a token this server takes no requests from pages of another origin";
            return Err(Problem::new(Code::OriginNotAllowed, detail));
        }
        Ok(())
    }

    /// Whether a `Host` may be asked for, with a port or without.
    fn allows(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
        name == "localhost"
            || address.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
            || self.0.iter().any(|allowed| *allowed == address)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(hosts: &[&str], origin: Option<&str>) -> Option<Code> {
        let mut headers = HeaderMap::new();
        hosts.iter().for_each(|host| _ = headers.append(header::HOST, host.parse().unwrap()));
        origin.into_iter().for_each(|origin| _ = headers.append(header::ORIGIN, origin.parse().unwrap()));
        let allowed = Hosts::parse("Portal.internal, 10.0.0.7").unwrap();
        allowed.check(&Uri::from_static("/api/v1/events"), &headers).err().map(|problem| problem.code())
    }

    #[test]
    fn loopback_and_the_names_that_are_set_may_be_asked_for() {
        for host in ["localhost", "LOCALHOST.:8082", "127.0.0.1:8082", "127.9.9.9", "[::1]:8082", "[::ffff:127.0.0.1]"]
        {
            assert_eq!(check(&[host], None), None, "{host}");
        }
        for host in ["portal.internal", "PORTAL.internal.:443", "10.0.0.7:1"] {
            assert_eq!(check(&[host], None), None, "{host}");
        }
        assert_eq!(check(&[], None), None, "a page's request always names a host");
        for host in ["evil.example", "", "localhost.evil.example", "10.0.0.8", "0.0.0.0:8082", "127.0.0.1.evil.example"]
        {
            assert_eq!(check(&[host], None), Some(Code::HostNotAllowed), "{host}");
        }
        assert_eq!(check(&["localhost", "evil.example"], None), Some(Code::HostNotAllowed));
        let target = Uri::from_static("http://evil.example/api/v1/events");
        assert!(Hosts::default().check(&target, &HeaderMap::new()).is_err());
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        assert_eq!(check(&["localhost:8082"], Some("http://localhost:8082")), None);
        for origin in ["http://evil.example", "null", "", "http://localhost:3000", "https://localhost"] {
            assert_eq!(check(&["localhost:8082"], Some(origin)), Some(Code::OriginNotAllowed), "{origin}");
        }
    }

    #[test]
    fn only_names_may_be_set() {
        for wrong in ["http://portal", "portal:80", "a b/c", "*"] {
            assert!(Hosts::parse(wrong).is_err(), "{wrong}");
        }
    }
}
