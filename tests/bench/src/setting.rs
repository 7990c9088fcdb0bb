//! Stores, world, and the ways to them that are watched.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use huntaze_rollout::flag::HYBRID_ORCHESTRATOR;
use huntaze_tests::{App, Request, Session};
use reqwest::Url;
use serde_json::json;

use crate::subject::Subject;
use crate::tls::TlsFront;
use crate::wire::{RoundTrip, Tap};

/// The name of the provider's tap.
pub(crate) const PROVIDER: &str = "provider";
/// Everything that is measured, and what it talks to.
pub(crate) struct Setting {
    /// World and stores.
    pub(crate) app: App,
    /// The least that a function can be.
    pub(crate) hello: Subject,
    /// campaigns-hybrid as it is.
    pub(crate) direct: Subject,
    /// campaigns-hybrid whose every connection is watched.
    pub(crate) tapped: Subject,
    /// campaigns-hybrid whose provider is behind TLS.
    pub(crate) https: Subject,
    taps: Vec<Tap>,
    _front: TlsFront,
}

impl Setting {
    /// Starts the world, makes stores, and opens the ways to them. Files go to `folder`.
    pub(crate) async fn new(folder: &Path) -> anyhow::Result<Self> {
        // More than is asked here.
        let app = App::start().await?.set("API_RATE_LIMIT_PER_MINUTE", "100000");
        // As a rollout has it: the flag is read, and decides.
        let app = app.set("HYBRID_ORCHESTRATOR_ENABLED", "true");
        app.stores.take_everybody_in(HYBRID_ORCHESTRATOR).await?;
        let brief = json!({
            "type": "content_planning",
            "platforms": ["onlyfans"],
            "data": {"theme": "summer nights", "tone": "warm"},
        });
        let request = Request::post("/api/v2/campaigns/hybrid").bearer(&Session::user("bench").v4()).json(&brief);
        let front = TlsFront::to(addr(&app.world.url())?).await?;
        let ca = folder.join("ca.pem");
        fs::write(&ca, front.ca())?;
        // Read by all of them, so that only the provider's TLS makes the difference.
        let direct = Subject::new("campaigns-hybrid", app.env().clone(), request)
            .with([("TLS_CA_FILE", ca.display().to_string())]);
        let secure = format!("https://{}", front.addr());
        let https = direct.with(
            ["AZURE_OPENAI_ENDPOINT", "OPENAI_BASE_URL"]
                .map(|name| (name, direct.env(name).unwrap_or_default().replace(&app.world.url(), &secure))),
        );
        let (taps, tapped) = tap(&direct).await?;
        let hello = Subject::new("hello", BTreeMap::new(), Request::get("/"));
        Ok(Self { app, hello, direct, tapped, https, taps, _front: front })
    }

    /// The round trips on all watched connections since this was asked last.
    pub(crate) fn round_trips(&self) -> Vec<RoundTrip> {
        self.taps.iter().flat_map(Tap::take).collect()
    }
}

/// The same function with a tap on each of its ways out.
async fn tap(subject: &Subject) -> anyhow::Result<(Vec<Tap>, Subject)> {
    let (mut taps, mut tapped) = (Vec::new(), subject.clone());
    for (server, variable, read_as) in [
        ("PostgreSQL", "DATABASE_URL", "DATABASE_URL"),
        ("Redis", "REDIS_URL", "REDIS_URL"),
        ("DynamoDB", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL"),
        (PROVIDER, "AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_ENDPOINT"),
        (PROVIDER, "OPENAI_BASE_URL", "OPENAI_BASE_URL"),
    ] {
        let url = subject.env(read_as).with_context(|| format!("{read_as} is not set"))?;
        let tap = Tap::to(server, addr(url)?).await?;
        let mut way: Url = url.parse()?;
        way.set_port(Some(tap.addr().port())).ok().context("a URL without a port")?;
        tapped = tapped.with([(variable, way.to_string())]);
        taps.push(tap);
    }
    Ok((taps, tapped))
}

/// Where the server of a URL listens: all of them are on loopback, with a port.
fn addr(url: &str) -> anyhow::Result<SocketAddr> {
    let url: Url = url.parse()?;
    let (host, port) = (url.host_str().context("a URL without a host")?, url.port().context("a URL without a port")?);
    Ok(SocketAddr::new(host.parse().with_context(|| host.to_owned())?, port))
}
