//! Does a port accept connections?

use crate::net::resolve;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Connects to the first address of `host` that answers, and closes at once.
///
/// # Errors
/// What the last address said, or that the time was up.
pub async fn connect(host: &str, port: u16, limit: Duration) -> Result<SocketAddr, String> {
    let attempt = async {
        let mut last = format!("`{host}` has no address");
        for address in resolve(host).await? {
            let address = SocketAddr::new(address, port);
            match TcpStream::connect(address).await {
                Ok(_) => return Ok(address),
                Err(error) => last = format!("{address}: {error}"),
            }
        }
        Err(last)
    };
    match timeout(limit, attempt).await {
        Ok(answer) => answer,
        Err(_) => {
            Err(format!("no answer from {host}:{port} within {}", crate::units::format_duration(limit)))
        }
    }
}
