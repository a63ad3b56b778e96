//! TLS on an outgoing connection: rustls between the socket and what is spoken.
//!
//! Only with the feature `tls`. Who is trusted: the authorities of a file, where one is named, else
//! those that browsers trust. The handshake needs nobody's attention: what is written before its end
//! waits in here.

use std::io::{self, Read as _, Write};
use std::path::Path;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::config::agent::TlsFiles;

/// Plain bytes that wait in here, at most.
const BUFFER: usize = 64 * 1024;

/// One connection.
pub struct Tls(Box<ClientConnection>);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Begins a connection to `host`, which the other end has to prove to be.
    ///
    /// # Errors
    ///
    /// Files that cannot be used, or a name that cannot be proven: a sentence.
    pub fn new(host: &str, files: &TlsFiles) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        match &files.authorities {
            Some(path) => {
                for authority in certificates(path)? {
                    roots.add(authority).map_err(|error| cannot(path, &error))?;
                }
            }
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        let config = ClientConfig::builder().with_root_certificates(roots);
        let config = match (&files.certificate, &files.key) {
            (Some(certificate), Some(key)) => {
                let found =
                    PrivateKeyDer::from_pem_file(key).map_err(|error| cannot(key, &error))?;
                config
                    .with_client_auth_cert(certificates(certificate)?, found)
                    .map_err(|error| cannot(certificate, &error))?
            }
            (None, None) => config.with_no_client_auth(),
            _ => return Err("'cert_file' and 'key_file' are needed together".to_owned()),
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| format!("{host} is no name that can be proven"))?;
        let mut connection =
            ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
        connection.set_buffer_limit(Some(BUFFER));
        Ok(Self(Box::new(connection)))
    }

    /// Reads what was said, as `Read::read`.
    ///
    /// # Errors
    ///
    /// Those of the socket; what is no TLS, or not from whom it should be.
    pub fn read(&mut self, stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            if self.0.read_tls(stream)? == 0 {
                return Ok(0);
            }
            let understood = self.0.process_new_packets();
            // An alert says why, too.
            let _ = self.flush(stream);
            understood.map_err(io::Error::other)?;
        }
    }

    /// Sends what waits in here.
    ///
    /// # Errors
    ///
    /// Those of the socket; `WouldBlock` when it takes no more now.
    pub fn flush(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        while self.0.wants_write() {
            self.0.write_tls(stream)?;
        }
        Ok(())
    }

    /// Whether something waits in here for the socket.
    pub fn wants_write(&self) -> bool {
        self.0.wants_write()
    }
}

/// Both together, to be written to.
pub struct Through<'a>(pub &'a mut Tls, pub &'a mut TcpStream);

impl Write for Through<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.flush(self.1)?;
        let taken = self.0.0.writer().write(bytes)?;
        match self.0.flush(self.1) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ if taken == 0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush(self.1)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let all: Vec<_> = all.map_err(|error| cannot(path, &error))?;
    if all.is_empty() { Err(cannot(path, &"no certificate is in it")) } else { Ok(all) }
}

fn cannot(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("cannot use {}: {error}", path.display())
}
