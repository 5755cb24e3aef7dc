//! Host names to addresses from `/etc/hosts` and the name servers of
//! `/etc/resolv.conf`, without the C library: a static glibc would load the
//! image's own NSS modules, which may not fit it.

use hickory_resolver::TokioResolver;
use std::net::IpAddr;

/// The addresses of `host`, which may be an address already.
///
/// # Errors
/// Why there are none, in words.
pub async fn resolve(host: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let builder =
        TokioResolver::builder_tokio().map_err(|error| format!("cannot read /etc/resolv.conf: {error}"))?;
    let resolver = builder.build().map_err(|error| format!("cannot look up names: {error}"))?;
    let found =
        resolver.lookup_ip(host).await.map_err(|error| format!("cannot look up `{host}`: {error}"))?;
    Ok(found.iter().collect())
}
