//! The world over real HTTP: the shapes of the services, and every fault.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

mod control;
mod faults;
mod onlyfans;
mod shapes;
mod slack;

use std::sync::Once;
use std::time::Duration;

use huntaze_world::{ANY_PORT, AZURE_KEY, OPENAI_KEY, World};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(10);

/// A world and a client that keeps its connections, as the functions do.
struct Fixture {
    world: World,
    client: Client,
}

struct Answer {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Value,
}

impl Fixture {
    fn start() -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| rustls::crypto::ring::default_provider().install_default().unwrap());
        let client = Client::builder().no_proxy().timeout(BOUND).build().unwrap();
        Self { world: World::start(ANY_PORT).unwrap(), client }
    }

    fn azure_at(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.world.azure_endpoint())).header("api-key", AZURE_KEY)
    }

    fn azure(&self, body: &Value) -> RequestBuilder {
        self.azure_at("/openai/deployments/gpt-4-turbo/chat/completions?api-version=2024-10-21").json(body)
    }

    fn openai(&self, body: &Value) -> RequestBuilder {
        self.client
            .post(format!("{}/chat/completions", self.world.openai_base_url()))
            .bearer_auth(OPENAI_KEY)
            .header("OpenAI-Organization", "org-huntaze")
            .json(body)
    }
}

async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, body: response.json().await.unwrap() }
}

fn ask(text: &str) -> Value {
    json!({
        "model": "gpt-4o",
        "messages": [{ "role": "system", "content": "You write messages." }, { "role": "user", "content": text }],
    })
}
