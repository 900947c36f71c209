//! The way in: a port or a socket, and connections that each have an end.
//!
//! Does not know what is asked. Whoever reads or asks slowly holds up nobody: there are so many connections at once, and for one
//! more the oldest is closed.

use axum::Router;
use base::config::Listen;
use base::{At, Error, Result};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::VecDeque;
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;

/// How many connections may be open at once.
const MOST: usize = 128;
/// How long a request's head may take.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a connection lives, whatever it does.
const LIFE: Duration = Duration::from_secs(60);
/// The longest head of a request, in bytes.
const HEAD_LIMIT: usize = 16 << 10;
/// After a failed accept (too many open files), until the next.
const BREATH: Duration = Duration::from_millis(200);

/// Where connections come from.
#[derive(Debug)]
pub enum Door {
    /// A port.
    Tcp(TcpListener),
    /// A socket of the file system.
    Unix(UnixListener),
}

impl Door {
    /// Begins to listen. Called in a runtime. A socket that was left by a process that is gone is taken over, and the group may
    /// write to it.
    ///
    /// # Errors
    /// When somebody listens there, or it must not be.
    pub async fn open(listen: &Listen) -> Result<Self> {
        match listen {
            Listen::Tcp(address) => {
                let listener = TcpListener::bind(address).await.at("listen at", address.to_string());
                listener.map(Self::Tcp).map_err(|error| {
                    error.hint("Another program may listen there; listen in [web] of node.toml, or --listen, names another place.")
                })
            }
            Listen::Unix(path) => {
                clear(path).await?;
                let listener = UnixListener::bind(path).at("listen at", path)?;
                fs::set_permissions(path, Permissions::from_mode(0o660)).at("set the mode of", path)?;
                Ok(Self::Unix(listener))
            }
        }
    }

    /// Where it listens, for people; with port 0 the system has chosen one.
    pub fn place(&self, listen: &Listen) -> String {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or_else(|_| listen.to_string(), |address| format!("http://{address}/")),
            Self::Unix(_) => listen.to_string(),
        }
    }

    /// Serves until the future is dropped.
    pub async fn serve(self, router: Router) {
        let mut open = VecDeque::new();
        loop {
            let accepted = match &self {
                Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| begin(stream, router.clone())),
                Self::Unix(listener) => listener.accept().await.map(|(stream, _)| begin(stream, router.clone())),
            };
            match accepted {
                Ok(connection) => admit(&mut open, connection),
                Err(error) => {
                    tracing::warn!("could not accept a connection: {error}");
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }
}

/// Takes a connection in; the oldest goes when there are too many.
fn admit(open: &mut VecDeque<JoinHandle<()>>, connection: JoinHandle<()>) {
    open.retain(|other| !other.is_finished());
    if open.len() >= MOST
        && let Some(oldest) = open.pop_front()
    {
        oldest.abort();
    }
    open.push_back(connection);
}

fn begin(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) -> JoinHandle<()> {
    tokio::spawn(async move {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(HEAD_LIMIT)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
        // What goes wrong with a connection is the other side's to say.
        if let Ok(Err(error)) = tokio::time::timeout(LIFE, connection).await {
            tracing::debug!("a connection ended: {error}");
        }
    })
}

/// Removes a socket at which nobody listens any more.
async fn clear(path: &Path) -> Result<()> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
    if !meta.file_type().is_socket() {
        return Err(Error::usage(format!("{} is there already, and is no socket", path.display())));
    }
    match tokio::net::UnixStream::connect(path).await {
        Ok(_) => Err(Error::not_now(format!("another program listens at {}", path.display()))),
        // The system's word for a socket at which nobody listens; whoever may not ask does not know.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => fs::remove_file(path).at("remove the socket", path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).at("find out whether somebody listens at", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    async fn ended(task: &tokio::task::AbortHandle) {
        for _ in 0..10 * MOST {
            if task.is_finished() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("it goes on");
    }

    #[test]
    fn for_one_more_the_oldest_goes() {
        wait(async {
            let mut open = VecDeque::new();
            let connection = || tokio::spawn(std::future::pending::<()>());
            for _ in 0..MOST {
                admit(&mut open, connection());
            }
            let ids: Vec<_> = open.iter().map(JoinHandle::id).collect();
            // One that has ended makes room, and nobody must go.
            open[5].abort();
            let gone = open[5].abort_handle();
            ended(&gone).await;
            admit(&mut open, connection());
            assert!(open.len() == MOST && open[0].id() == ids[0] && open.iter().all(|other| !other.is_finished()));
            let oldest = open[0].abort_handle();
            admit(&mut open, connection());
            ended(&oldest).await;
            assert!(open.len() == MOST && open[0].id() == ids[1]);
            assert!(open.iter().all(|other| !other.is_finished()));
        });
    }

    #[test]
    fn a_socket_is_taken_over_from_nobody_who_listens() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(wait(clear(&path)).unwrap_err().one_line().contains("another program listens"));
        drop(listener);
        wait(clear(&path)).unwrap();
        assert!(!path.exists());
        std::fs::write(&path, "x").unwrap();
        assert!(wait(clear(&path)).unwrap_err().one_line().contains("no socket") && path.exists());
    }
}
