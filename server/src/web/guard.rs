//! Who is answered at all, and what every answer says to a browser.
//!
//! The page has no login of its own: a reverse proxy has. What is left to do here is that no other site's page gets in by a
//! browser that may: by a name that leads here (DNS rebinding), or by being shown inside of something.

use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use base::config::{Listen, WebConfig};
use std::net::IpAddr;

/// No script, nothing from elsewhere, not inside of anything.
pub const POLICY: &str =
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What every answer says.
pub const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
];

/// Why a request is not answered; `None` when it is.
pub fn refusal(method: &Method, uri: &Uri, headers: &HeaderMap, config: &WebConfig) -> Option<(StatusCode, String)> {
    if method != Method::GET && method != Method::HEAD {
        return Some((StatusCode::METHOD_NOT_ALLOWED, "This page can be read and nothing else.".into()));
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().unwrap_or_default().to_ascii_lowercase(),
        _ => String::new(),
    };
    // A request may name a host in its first line as well, and then that one counts elsewhere.
    let same = uri.authority().is_none_or(|named| named.as_str().eq_ignore_ascii_case(&host));
    if same && is_known(&host, config) {
        return None;
    }
    let words = format!(
        "This page is not known as {}. If that is its name, write it into hosts of [web] in node.toml.",
        if host.is_empty() { "a host without a name".to_owned() } else { format!("{host:?}") }
    );
    Some((StatusCode::MISDIRECTED_REQUEST, words))
}

/// Whether a `Host` header names this page.
fn is_known(host: &str, config: &WebConfig) -> bool {
    if config.hosts.iter().any(|known| known == host) {
        return true;
    }
    let Some(name) = without_port(host) else { return false };
    if name == "localhost" || config.hosts.iter().any(|known| known == name) {
        return true;
    }
    let address: Option<IpAddr> = name.trim_start_matches('[').trim_end_matches(']').parse().ok();
    // Nobody can have an address's own text resolved to something else.
    address.is_some_and(|address| {
        address.is_loopback() || matches!(&config.listen, Listen::Tcp(own) if own.ip() == address && !address.is_unspecified())
    })
}

fn without_port(host: &str) -> Option<&str> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let digits = |port: &str| port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    (port.is_none_or(digits) && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: Method, uri: &str, hosts: &[&str]) -> Option<u16> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, host.parse().unwrap());
        }
        let config = WebConfig { hosts: vec!["backup.example.org".into(), "other.example:8443".into()], ..WebConfig::default() };
        refusal(&method, &uri.parse().unwrap(), &headers, &config).map(|(status, _)| status.as_u16())
    }

    #[test]
    fn only_reading_and_only_by_names_of_this_page() {
        for host in [
            "localhost",
            "localhost:8017",
            "127.0.0.1:8017",
            "127.1.2.3",
            "[::1]:8017",
            "[::1]",
            "Backup.Example.ORG",
            "backup.example.org:443",
            "other.example:8443",
        ] {
            assert_eq!(status(Method::GET, "/", &[host]), None, "{host}");
            assert_eq!(status(Method::HEAD, "/x", &[host]), None, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "backup.example.org.evil",
            "other.example",
            "10.0.0.1",
            "0.0.0.0",
            "",
            ":80",
            "localhost:x",
            "localhost:80:80",
            "[::1",
            "user@localhost",
            "localhost/",
        ] {
            assert_eq!(status(Method::GET, "/", &[host]), Some(421), "{host}");
        }
        assert_eq!(status(Method::GET, "/", &[]), Some(421));
        assert_eq!(status(Method::GET, "/", &["localhost", "evil.example"]), Some(421));
        assert_eq!(status(Method::GET, "http://evil.example/", &["localhost"]), Some(421));
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE, Method::CONNECT] {
            assert_eq!(status(method, "/", &["localhost"]), Some(405));
        }
    }
}
