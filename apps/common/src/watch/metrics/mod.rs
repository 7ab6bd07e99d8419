//! `--metrics`: answers Prometheus from the main thread, between two looks at the clock. Counters are
//! read when somebody asks; nobody waits, and no thread is added to those that share the cores.

mod http;
mod text;

use std::{
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    time::Instant,
};

use super::Look;
use crate::AppError;
use http::Connection;

/// Connections at a time; one more ends the oldest.
const MOST: usize = 8;

/// Listens, and serves whoever asks.
pub(super) struct Server {
    app: &'static str,
    listener: TcpListener,
    addr: SocketAddr,
    open: Vec<Connection>,
}

impl Server {
    /// Listens on `addr`: `host:port`, or a port of 127.0.0.1.
    pub(super) fn listen(app: &'static str, addr: &str) -> Result<Self, AppError> {
        let listener = TcpListener::bind(&*resolve(addr)?).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        let (at, listener) = listener.map_err(|error| {
            let (what, hint) = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    ("somebody listens there already", "another port, or 0 for one that is free")
                }
                io::ErrorKind::PermissionDenied => {
                    ("no permission", "a port from 1024 on needs none")
                }
                io::ErrorKind::AddrNotAvailable => (
                    "no address of this machine",
                    "127.0.0.1:9464, or 0.0.0.0:9464 for all of them",
                ),
                _ => return AppError::missing(format!("--metrics {addr}: {error}")),
            };
            AppError::missing(format!("--metrics {addr}: {what}")).hint(hint)
        })?;
        Ok(Self { app, listener, addr: at, open: Vec::new() })
    }

    /// Where it listens.
    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes new connections and goes on with the others; looks if somebody asks.
    pub(super) fn serve(&mut self, now: Instant, look: &mut Look<'_>) {
        // An error here is the peer's, or a shortage that may pass: the next tick looks again.
        while let Ok((stream, _)) = self.listener.accept() {
            if self.open.len() == MOST {
                self.open.remove(0);
            }
            self.open.extend(Connection::new(stream, now));
        }
        let app = self.app;
        let mut metrics = || text::expose(app, look.get());
        self.open.retain_mut(|connection| connection.advance(now, &mut metrics));
    }
}

fn resolve(addr: &str) -> Result<Vec<SocketAddr>, AppError> {
    if let Ok(port) = addr.parse::<u16>() {
        return Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]);
    }
    let found = addr.to_socket_addrs().map(Vec::from_iter).unwrap_or_default();
    if found.is_empty() {
        let why =
            format!("--metrics {addr}: no address; such as 127.0.0.1:9464, [::1]:9464 or 9464");
        return Err(AppError::usage(why));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpStream,
        sync::atomic::{AtomicBool, Ordering},
        thread,
        time::Duration,
    };

    use super::*;
    use crate::{Exit, watch::sample::tests::full};

    /// Serves while `ask` runs; returns what it got.
    fn serving<T: Send>(ask: impl FnOnce(SocketAddr) -> T + Send) -> T {
        let mut server = Server::listen("gpurx", "0").unwrap();
        let (addr, done) = (server.addr(), AtomicBool::new(false));
        thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let got = ask(addr);
                done.store(true, Ordering::Relaxed);
                got
            });
            while !done.load(Ordering::Relaxed) && !asking.is_finished() {
                server.serve(Instant::now(), &mut Look::new(&mut full));
                thread::park_timeout(Duration::from_millis(1));
            }
            asking.join().unwrap()
        })
    }

    fn ask(addr: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    #[test]
    fn a_scrape_gets_the_metrics_and_nothing_else_does() {
        for (request, status) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK"),
            ("GET /metrics?name[]=a HTTP/1.0\n\n", "200 OK"),
            ("GET / HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("GET /metricsx HTTP/1.1\r\n\r\n", "404 Not Found"),
            ("POST /metrics HTTP/1.1\r\nContent-Length: 2\r\n\r\nab", "405 Method Not Allowed"),
            ("GET /metrics HTTP/2\r\n\r\n", "505 HTTP"),
            ("\0\u{7f}\r\n\r\n", "400 Bad Request"),
            ("\r\n\r\n", "400 Bad Request"),
        ] {
            let answer = serving(|addr| ask(addr, request.as_bytes()));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:?}: {answer}");
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
            assert_eq!(body.contains("memwire_rx_packets_total"), status == "200 OK");
        }
    }

    #[test]
    fn a_request_without_end_is_too_long() {
        let answer = serving(|addr| ask(addr, &[b'x'; 20_000]));
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }

    #[test]
    fn one_that_dawdles_is_hung_up_on_and_delays_nobody() {
        serving(|addr| {
            let slow: Vec<_> = (0..2 * MOST)
                .map(|_| {
                    let mut stream = TcpStream::connect(addr).unwrap();
                    stream.write_all(b"GET /met").unwrap();
                    stream
                })
                .collect();
            let began = Instant::now();
            assert!(ask(addr, b"GET /metrics HTTP/1.1\r\n\r\n").contains("200 OK"));
            assert!(began.elapsed() < Duration::from_millis(1500));
            for mut stream in slow {
                // Closed by a reset or an end, within the patience.
                stream.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
                let read = stream.read(&mut [0; 16]);
                let timed_out = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
                assert!(!read.as_ref().is_err_and(timed_out), "{read:?}");
            }
            assert!(began.elapsed() < Duration::from_secs(4));
        });
    }

    #[test]
    fn addresses_that_cannot_be_are_refused_with_a_way_out() {
        let says = |addr: &str| Server::listen("gpurx", addr).err().expect(addr);
        for addr in ["nonsense", "127.0.0.1", "70000", "127.0.0.1:99999", ""] {
            let error = says(addr);
            assert_eq!(error.code(), Exit::Usage, "{error}");
            assert!(error.to_string().contains("such as 127.0.0.1:9464"), "{error}");
        }
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = says(&taken.local_addr().unwrap().to_string());
        assert_eq!(error.code(), Exit::Missing);
        assert!(error.to_string().contains("listens there already"), "{error}");
        let error = says("192.0.2.1:9464");
        assert!(error.to_string().contains("no address of this machine"), "{error}");
        if !rustix::process::geteuid().is_root() {
            assert!(says("127.0.0.1:1").to_string().contains("from 1024 on"));
        }
    }

    #[test]
    fn a_port_alone_is_of_this_machine_alone() {
        let server = Server::listen("gpurx", "0").unwrap();
        assert!(server.addr().ip().is_loopback());
    }
}
