//! A provider behind TLS: a front with a certificate of its own, before a server that speaks plain HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Speaks TLS for the server behind it.
#[derive(Debug)]
pub(crate) struct TlsFront {
    addr: SocketAddr,
    ca: String,
    task: JoinHandle<()>,
}

impl TlsFront {
    /// A front for `target`, with a certificate for 127.0.0.1.
    pub(crate) async fn to(target: SocketAddr) -> anyhow::Result<Self> {
        let (config, ca) = certified().context("no certificate could be made")?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        Ok(Self { addr, ca, task: serve(listener, TlsAcceptor::from(Arc::new(config)), target) })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The certificate of the authority that signed its own, as PEM.
    pub(crate) fn ca(&self) -> &str {
        &self.ca
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[expect(clippy::disallowed_methods, reason = "no Lambda function: nothing freezes it")]
fn serve(listener: TcpListener, acceptor: TlsAcceptor, target: SocketAddr) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let _ = client.set_nodelay(true);
                // Whoever fails sees it at their own end.
                let mut client = acceptor.accept(client).await?;
                let mut server = TcpStream::connect(target).await?;
                copy_bidirectional(&mut client, &mut server).await
            });
        }
    })
}

/// Authority and certificate on ECDSA P-256, as the providers' own are.
fn certified() -> anyhow::Result<(ServerConfig, String)> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = authority.self_signed(&authority_key)?.pem();
    let key = KeyPair::generate()?;
    let issuer = Issuer::new(authority, authority_key);
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &issuer)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))?;
    Ok((config, ca))
}
