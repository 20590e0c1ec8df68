//! What a log server does for a proxy that sends its access log instead of writing it.
//!
//! What flows in: lines over TCP. What flows out: the same lines in a file.

use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

/// From where to where.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// The file.
    #[arg(long)]
    file: PathBuf,
}

/// Runs until it is ended. One connection at a time, for there is one proxy.
pub(crate) async fn run(options: &Options) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", options.file.display());
    let listener = TcpListener::bind(options.listen).await.map_err(|error| format!("{}: {error}", options.listen))?;
    let mut file = std::fs::File::create(&options.file).map_err(failed)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            std::io::Write::write_all(&mut file, &buffer[..read]).map_err(failed)?;
        }
    }
}
