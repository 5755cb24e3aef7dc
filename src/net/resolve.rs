//! Host names to addresses from `/etc/hosts` and the name servers of
//! `/etc/resolv.conf`, without the C library: a static glibc would load the
//! image's own NSS modules, which may not fit it.

use hickory_resolver::TokioResolver;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses of `host`, which may be an address already.
///
/// # Errors
/// Why there are none, in words.
pub async fn resolve(host: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let hosts = std::fs::read("/etc/hosts").unwrap_or_default();
    let listed = in_hosts(&String::from_utf8_lossy(&hosts), host);
    if !listed.is_empty() {
        return Ok(listed);
    }
    // RFC 6761, section 6.3: whatever is in the files.
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let builder =
        TokioResolver::builder_tokio().map_err(|error| format!("cannot read /etc/resolv.conf: {error}"))?;
    let resolver = builder.build().map_err(|error| format!("cannot look up names: {error}"))?;
    let found =
        resolver.lookup_ip(host).await.map_err(|error| format!("cannot look up `{host}`: {error}"))?;
    Ok(found.iter().collect())
}

/// The addresses that `hosts(5)` lists for a name.
fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_as_they_are_written() {
        let text =
            "127.0.0.1\tlocalhost\n# 10.0.0.9 db\n10.0.0.1 db.internal db # the first\n::1 db\nnonsense db\n";
        let found: Vec<String> = in_hosts(text, "DB").iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.1", "::1"]);
        assert!(in_hosts(text, "web").is_empty());
    }
}
