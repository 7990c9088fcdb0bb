//! Everything that a test needs, with defaults.

use std::collections::BTreeMap;

use huntaze_world::{ANY_PORT, AZURE_KEY, OPENAI_KEY, World};

use crate::runtime::{Fleet, Function};
use crate::stores::Stores;
use crate::tokens::SECRET;

/// The key that sessions with the platform are sealed with.
const OF_SESSION_KEYS: &str = "test:QSBrZXkgZm9yIHRlc3RzOiBpdCBpcyBubyBzZWNyZXQ=";

/// The page that a test's browser is on.
pub const ORIGIN: &str = "https://app.huntaze.test";

const CACHED_TYPES: [&str; 4] = ["CONTENT_PLANNING", "MESSAGE_GENERATION", "CONTENT_VALIDATION", "CAMPAIGN_EXECUTION"];

/// A world, a set of stores, and the environment that tells functions of both.
#[derive(Debug)]
pub struct App {
    /// The providers.
    pub world: World,
    /// The databases and queues.
    pub stores: Stores,
    env: BTreeMap<String, String>,
}

impl App {
    /// Starts a world and makes a set of stores.
    ///
    /// # Errors
    /// If they do not come up.
    pub async fn start() -> anyhow::Result<Self> {
        let world = World::start(ANY_PORT)?;
        let stores = Stores::new().await?;
        let defaults = [
            ("AZURE_OPENAI_ENDPOINT", world.azure_endpoint()),
            ("AZURE_OPENAI_API_KEY", AZURE_KEY.to_owned()),
            ("OPENAI_BASE_URL", world.openai_base_url()),
            ("OPENAI_API_KEY", OPENAI_KEY.to_owned()),
            ("OPENAI_ORG_ID", "org-huntaze".to_owned()),
            ("ONLYFANS_API_URL", world.onlyfans_api_url()),
            ("ONLYFANS_USER_AGENT", "Mozilla/5.0 (huntaze-tests)".to_owned()),
            ("OF_SESSION_KEYS", OF_SESSION_KEYS.to_owned()),
            ("NEXTAUTH_SECRET", SECRET.to_owned()),
            ("ALLOWED_ORIGINS", ORIGIN.to_owned()),
            // Far above what a call of the world takes, even where many processes share two processors, and far below
            // what a person would wait for a test. A test of a time-out sets its own.
            ("AZURE_TIMEOUT_MS", "8000".to_owned()),
            ("OPENAI_TIMEOUT_MS", "8000".to_owned()),
            ("REQUEST_DEADLINE_MS", "25000".to_owned()),
            ("LOG_LEVEL", "info".to_owned()),
            // There is no old system, unless a test is about it.
            ("HYBRID_ORCHESTRATOR_ENABLED", "always".to_owned()),
        ];
        // The same brief again is another call: a test that counts calls would count what it asked before. Those of the cache
        // set the times of production.
        let cache = CACHED_TYPES
            .iter()
            .flat_map(|kind| ["FRESH", "KEPT"].map(|time| (format!("CACHE_{time}_SECONDS_{kind}"), "0".to_owned())));
        let mut env: BTreeMap<_, _> = stores.env().into_iter().chain(cache).collect();
        env.extend(defaults.map(|(name, value)| (name.to_owned(), value)));
        Ok(Self { world, stores, env })
    }

    /// With another value of a variable, for the functions started from now on.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// With the cache as it is where nobody sets its times.
    #[must_use]
    pub fn caching(mut self) -> Self {
        self.env.retain(|name, _| !name.starts_with("CACHE_"));
        self
    }

    /// Without a variable.
    #[must_use]
    pub fn unset(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    /// The environment of its functions.
    #[must_use]
    pub fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    /// Starts a process of a function, with another value of a variable for this one only.
    ///
    /// # Errors
    /// As [`App::function`].
    pub fn function_with(&self, name: &str, variable: &str, value: &str) -> anyhow::Result<Function> {
        let mut env = self.env.clone();
        env.insert(variable.to_owned(), value.to_owned());
        Function::spawn(name, env)
    }

    /// Starts a process of a function.
    ///
    /// # Errors
    /// If its binary is missing or does not start.
    pub fn function(&self, name: &str) -> anyhow::Result<Function> {
        Function::spawn(name, self.env.clone())
    }

    /// Starts several processes of a function, and waits until they are ready.
    ///
    /// # Errors
    /// If one of them does not start.
    pub async fn fleet(&self, name: &str, size: usize) -> anyhow::Result<Fleet> {
        Fleet::spawn(name, self.env.clone(), size).await
    }
}
