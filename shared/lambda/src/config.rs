//! The environment and the secret, read once.

use std::collections::HashMap;
use std::sync::Arc;

use huntaze_domain::env::{ConfigError, Env};
use rustls::ClientConfig;

use crate::clients::{self, Aws};
use crate::session::{ServiceTokens, SessionConfig, Sessions};

/// Reads the environment and, where `SECRETS_ID` names one, the secret: a JSON object of variables. A variable of the
/// environment itself wins over the secret's. The TLS configuration, which the secret is read over, comes with it: it is
/// built once and every client is built on it.
///
/// A fault of `TLS_CA_FILE` waits for the others, until [`Env::finish`].
///
/// # Errors
/// [`ConfigError`] if TLS cannot be set up or the secret cannot be read: what else is missing is not known then.
pub async fn load() -> Result<(Env, Arc<ClientConfig>), ConfigError> {
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    let variables = std::env::vars_os();
    let text = |value: std::ffi::OsString| value.into_string().ok();
    let own: Vec<_> = variables.filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect();
    let env = Env::from_pairs(own);
    let tls = clients::tls(&env).map_err(|fault| ConfigError(vec![fault.to_string()]))?;
    let Some(id) = env.optional("SECRETS_ID") else { return Ok((env, tls)) };
    let secret = read_secret(&Aws::new(&env, &tls), &id).await;
    match env.check("SECRETS_ID", secret) {
        Some(secret) => Ok((env.over(secret), tls)),
        None => env.finish(None),
    }
}

async fn read_secret(aws: &Aws, id: &str) -> Result<HashMap<String, String>, String> {
    let client = aws.secrets_manager();
    let secret = client.get_secret_value().secret_id(id).send().await;
    let secret = secret.map_err(|error| aws_sdk_secretsmanager::error::DisplayErrorContext(error).to_string())?;
    let text = secret.secret_string().ok_or("the secret is not text")?;
    // The parser's own message could quote the secret.
    serde_json::from_str(text).map_err(|_| "the secret is not a JSON object of texts".to_owned())
}

/// Sessions as the environment configures them: `NEXTAUTH_SECRET`, `AUTH_SECRET` and `AUTH_SECRET_1` to `_3` (all that are
/// set are tried, which is how a secret is rotated), `AUTH_ROLE_CLAIM`, `ALLOWED_ORIGINS`, and `SERVICE_JWT_*`.
#[must_use]
pub fn sessions(env: &Env) -> Option<Sessions> {
    let names = ["NEXTAUTH_SECRET", "AUTH_SECRET", "AUTH_SECRET_1", "AUTH_SECRET_2", "AUTH_SECRET_3"];
    let secrets: Vec<_> = names.iter().filter_map(|name| env.optional(name)).collect();
    let hs256_secret = env.optional("SERVICE_JWT_HS256_SECRET");
    let rs256_public_key_pem = env.optional("SERVICE_JWT_RS256_PUBLIC_KEY").map(|pem| pem.replace("\\n", "\n"));
    let service = (hs256_secret.is_some() || rs256_public_key_pem.is_some()).then(|| ServiceTokens {
        hs256_secret,
        rs256_public_key_pem,
        issuer: env.required("SERVICE_JWT_ISSUER"),
        audience: env.required("SERVICE_JWT_AUDIENCE"),
    });
    if secrets.is_empty() {
        env.fault("NEXTAUTH_SECRET", "is required (or AUTH_SECRET)");
        return None;
    }
    let role_claim = env.or("AUTH_ROLE_CLAIM", "role");
    let allowed_origins = env.list("ALLOWED_ORIGINS");
    env.check("sessions", Sessions::new(SessionConfig { secrets, role_claim, service, allowed_origins }))
}
