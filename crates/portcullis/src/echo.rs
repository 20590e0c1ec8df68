//! The built-in echo backend of `quickstart`: it answers with what it received, on loopback only.

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Map, Value, json};
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// The most of a request's body that is echoed, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// A bound echo backend that does not serve yet.
pub(crate) struct Echo {
    listener: TcpListener,
}

impl Echo {
    /// Binds a loopback port.
    pub(crate) fn bind(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener })
    }

    /// Serves on a thread of its own for as long as the program runs.
    pub(crate) fn start(self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name("echo".to_owned())
            .spawn(move || runtime.block_on(tokio::task::LocalSet::new().run_until(serve(self.listener))))?;
        Ok(())
    }
}

async fn serve(listener: TcpListener) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        tokio::task::spawn_local(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service_fn(echo));
            if let Err(error) = connection.await {
                tracing::debug!(%error, "echo connection ended");
            }
        });
    }
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await.map(http_body_util::Collected::to_bytes);
    let mut headers = Map::new();
    for name in parts.headers.keys() {
        let values: Vec<Value> = parts
            .headers
            .get_all(name)
            .iter()
            .map(|value| Value::from(String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        headers.insert(name.to_string(), Value::from(values));
    }
    let answer = json!({
        "method": parts.method.as_str(),
        "path": parts.uri.to_string(),
        "host": parts.headers.get(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned()),
        "headers": headers,
        "body": body.map(|body| String::from_utf8_lossy(&body).into_owned()).unwrap_or_default(),
    });
    let mut text = serde_json::to_vec_pretty(&answer).unwrap_or_default();
    text.push(b'\n');
    let mut response = Response::new(Full::new(Bytes::from(text)));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Ok(response)
}
