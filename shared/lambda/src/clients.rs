//! Clients on one TLS configuration (ADR 0002). Each function builds only those that it uses.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_smithy_runtime_api::client::connection::{CaptureSmithyConnection, ConnectionMetadata};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use aws_types::region::Region;
use http::HeaderName;
use huntaze_domain::env::Env;
use huntaze_sqs::Sqs;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::{CaptureConnection, HttpConnector as TcpConnector, capture_connection};
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::scope;

/// An AWS call, its retries included, is given up after this time.
const AWS_OPERATION_TIMEOUT: Duration = Duration::from_secs(4);
/// One try of an AWS call.
const AWS_ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Opening a connection to anything.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection to a provider is kept for the next request, but not for one that comes much later.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// The trace that a call belongs to, as AWS names it.
const XRAY: HeaderName = HeaderName::from_static("x-amzn-trace-id");

/// Why a client could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The TLS configuration.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The HTTP client.
    #[error("the HTTP client cannot be built")]
    Http(#[from] reqwest::Error),
}

/// The one TLS configuration: ring, the Mozilla roots, and the bundle that `TLS_CA_FILE` names. A bundle that cannot be
/// read is a fault of the environment, and left out.
///
/// # Errors
/// [`ClientError::Tls`]
pub fn tls(env: &Env) -> Result<Arc<ClientConfig>, ClientError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // Redis takes no configuration of ours and asks for the process's default. A second call changes nothing.
    let _ = rustls::crypto::CryptoProvider::install_default((*provider).clone());
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = env.optional("TLS_CA_FILE") {
        env.check("TLS_CA_FILE", add_bundle(&mut roots, &path));
    }
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

fn add_bundle(roots: &mut RootCertStore, path: &str) -> Result<(), String> {
    let fault = |error: &dyn Display| format!("cannot be read: {error}");
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| fault(&error))? {
        roots.add(certificate.map_err(|error| fault(&error))?).map_err(|error| fault(&error))?;
    }
    Ok(())
}

/// The HTTP client for providers: no proxy of the environment, no redirects, no retries of its own.
///
/// # Errors
/// [`ClientError::Http`]
pub fn http(tls: &Arc<ClientConfig>) -> Result<reqwest::Client, ClientError> {
    let builder = reqwest::Client::builder().tls_backend_preconfigured((**tls).clone()).no_proxy();
    let builder = builder.redirect(reqwest::redirect::Policy::none()).retry(reqwest::retry::never());
    // A connection that died in silence while the environment was frozen is noticed soon, not at the call's time-out.
    let builder = builder.pool_idle_timeout(IDLE_TIMEOUT).tcp_user_timeout(CONNECT_TIMEOUT);
    Ok(builder.connect_timeout(CONNECT_TIMEOUT).user_agent("huntaze-orchestrator").build()?)
}

/// AWS's part of the configuration. Credentials are the environment's: a function has no others.
pub struct Aws {
    config: SdkConfig,
    endpoints: Vec<(&'static str, String)>,
}

impl Aws {
    /// Reads region, credentials and endpoints; nothing is called.
    #[must_use]
    pub fn new(env: &Env, tls: &Arc<ClientConfig>) -> Self {
        let credentials = Credentials::new(
            env.or("AWS_ACCESS_KEY_ID", ""),
            env.or("AWS_SECRET_ACCESS_KEY", ""),
            env.optional("AWS_SESSION_TOKEN"),
            None,
            "environment",
        );
        let timeouts = TimeoutConfig::builder()
            .operation_timeout(AWS_OPERATION_TIMEOUT)
            .operation_attempt_timeout(AWS_ATTEMPT_TIMEOUT)
            .build();
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(env.or("AWS_REGION", "us-east-1")))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .retry_config(RetryConfig::standard())
            .timeout_config(timeouts)
            .sleep_impl(TokioSleep::new())
            .http_client(Connector::new(tls))
            .build();
        let endpoint = |service: &'static str, variable: &str| {
            let url = env.optional(variable).or_else(|| env.optional("AWS_ENDPOINT_URL"))?;
            Some((service, url))
        };
        let endpoints = [
            endpoint("dynamodb", "AWS_ENDPOINT_URL_DYNAMODB"),
            endpoint("s3", "AWS_ENDPOINT_URL_S3"),
            endpoint("secrets_manager", "AWS_ENDPOINT_URL_SECRETS_MANAGER"),
            endpoint("sesv2", "AWS_ENDPOINT_URL_SESV2"),
            endpoint("sns", "AWS_ENDPOINT_URL_SNS"),
            endpoint("sqs", "AWS_ENDPOINT_URL_SQS"),
        ];
        Self { config, endpoints: endpoints.into_iter().flatten().collect() }
    }

    fn endpoint(&self, service: &str) -> Option<String> {
        self.endpoints.iter().find(|(name, _)| *name == service).map(|(_, url)| url.clone())
    }
}

macro_rules! client {
    ($(#[$doc:meta])* $name:ident, $sdk:ident) => {
        impl Aws {
            $(#[$doc])*
            #[must_use]
            pub fn $name(&self) -> $sdk::Client {
                let mut config = $sdk::config::Builder::from(&self.config);
                config.set_endpoint_url(self.endpoint(stringify!($name)));
                $sdk::Client::from_conf(config.build())
            }
        }
    };
}

client! {
    /// DynamoDB.
    dynamodb, aws_sdk_dynamodb
}
client! {
    /// Secrets Manager.
    secrets_manager, aws_sdk_secretsmanager
}
client! {
    /// Simple Email Service, version 2.
    sesv2, aws_sdk_sesv2
}
client! {
    /// Simple Notification Service.
    sns, aws_sdk_sns
}
client! {
    /// Simple Queue Service.
    sqs, aws_sdk_sqs
}

impl Aws {
    /// Queues that something may be put on.
    #[must_use]
    pub fn queues(&self) -> Sqs {
        let later = Self { config: self.config.clone(), endpoints: self.endpoints.clone() };
        Sqs::new(move || later.sqs())
    }

    /// S3. At an endpoint of its own a bucket is part of the path, for nobody made a name of it there.
    #[must_use]
    pub fn s3(&self) -> aws_sdk_s3::Client {
        let endpoint = self.endpoint("s3");
        let mut config = aws_sdk_s3::config::Builder::from(&self.config).force_path_style(endpoint.is_some());
        config.set_endpoint_url(endpoint);
        aws_sdk_s3::Client::from_conf(config.build())
    }
}

/// The SDK's HTTP client cannot take a TLS configuration, so this one stands in: hyper on ours.
#[derive(Debug, Clone)]
struct Connector(hyper_util::client::legacy::Client<HttpsConnector<TcpConnector>, SdkBody>);

impl Connector {
    fn new(tls: &Arc<ClientConfig>) -> Self {
        let mut tcp = TcpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // The SDK's own connect time-out does not reach a connector that is not its own.
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let https = HttpsConnectorBuilder::new().with_tls_config((**tls).clone()).https_or_http().enable_http1();
        Self(hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(https.wrap_connector(tcp)))
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.0.clone();
        HttpConnectorFuture::new(async move {
            let mut request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let connection = capture_connection(&mut request);
            if let Some(asks) = request.extensions().get::<CaptureSmithyConnection>() {
                asks.set_connection_retriever(move || used(&connection));
            }
            // The signature leaves this header out.
            if let Some(trace) = scope::xray_header(request.headers().get(XRAY)) {
                request.headers_mut().insert(XRAY, trace);
            }
            // Reported as IO, which the SDK retries.
            let response = client.request(request).await.map_err(|error| ConnectorError::io(error.into()))?;
            let response = response.map(SdkBody::from_body_1_x);
            response.try_into().map_err(|error| ConnectorError::other(Box::new(error), None))
        })
    }
}

/// The connection that a call went over, which the SDK does not want again after a failure that another might not have. Without it the
/// SDK logs each of these as an error of ours.
fn used(connection: &CaptureConnection) -> Option<ConnectionMetadata> {
    let (proxied, poisoned) = (connection.connection_metadata().as_ref()?.is_proxied(), connection.clone());
    let poison = move || {
        if let Some(connected) = poisoned.connection_metadata().as_ref() {
            connected.poison();
        }
    };
    Some(ConnectionMetadata::builder().proxied(proxied).poison_fn(poison).build())
}

impl HttpClient for Connector {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
