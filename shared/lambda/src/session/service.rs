//! Signed tokens of other services: JWS (RFC 7515) with a shared secret or a public key, each for its one algorithm.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::{Refusal, ServiceTokens, SessionConfigError, signatures};

/// RFC 7518 §3.2: an HS256 key is at least as long as the hash.
const MIN_SECRET_BYTES: usize = 32;
/// RFC 7518 §3.3: an RS256 key has at least 2048 bits. Its DER is a little longer than that modulus.
const MIN_PUBLIC_KEY_BYTES: usize = 2048 / 8;

pub(super) struct Verifier {
    keys: Vec<(Algorithm, DecodingKey)>,
    issuer: String,
    audience: String,
}

impl Verifier {
    pub(super) fn new(config: ServiceTokens) -> Result<Self, SessionConfigError> {
        let fault = |field, problem| Err(SessionConfigError { field, problem });
        let ServiceTokens { hs256_secret, rs256_public_key_pem, issuer, audience } = config;
        if issuer.is_empty() {
            return fault("service.issuer", "must not be empty");
        }
        if audience.is_empty() {
            return fault("service.audience", "must not be empty");
        }
        signatures::install();
        let mut keys = Vec::new();
        if let Some(secret) = hs256_secret {
            if secret.len() < MIN_SECRET_BYTES {
                return fault("service.hs256_secret", "must have at least 32 bytes");
            }
            keys.push((Algorithm::HS256, DecodingKey::from_secret(secret.as_bytes())));
        }
        if let Some(pem) = rs256_public_key_pem {
            let key = DecodingKey::from_rsa_pem(pem.as_bytes()).ok().filter(|_| pem.contains("PUBLIC KEY-----"));
            let Some(key) = key else {
                return fault("service.rs256_public_key_pem", "must be an RSA public key in PEM form");
            };
            if key.try_get_as_bytes().is_ok_and(|der| der.len() < MIN_PUBLIC_KEY_BYTES) {
                return fault("service.rs256_public_key_pem", "must have at least 2048 bits");
            }
            keys.push((Algorithm::RS256, key));
        }
        if keys.is_empty() {
            return fault("service", "must have a secret or a public key");
        }
        Ok(Self { keys, issuer, audience })
    }

    /// The claims of a token with a good signature, our issuer and our audience. Its times are the caller's to check.
    pub(super) fn verify(&self, token: &str) -> Result<Map<String, Value>, Refusal> {
        let header = decode_header(token).map_err(|_| "the service token's header is not valid")?;
        // It would change what the token means, and the crate overlooks it.
        if header.crit.is_some() {
            return Err("the service token's header has crit");
        }
        // The token names an algorithm only to choose among the keys: each key knows its own.
        let key = self.keys.iter().find(|(algorithm, _)| *algorithm == header.alg);
        let Some((algorithm, key)) = key else { return Err("the service token's alg is not allowed") };

        let mut rules = Validation::new(*algorithm);
        rules.set_issuer(&[&self.issuer]);
        rules.set_audience(&[&self.audience]);
        rules.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
        // The crate would read the machine's clock.
        rules.validate_exp = false;
        rules.validate_nbf = false;
        decode(token, key, &rules).map(|token| token.claims).map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature => "the service token's signature is not valid",
            ErrorKind::InvalidIssuer => "the service token is from another issuer",
            ErrorKind::InvalidAudience => "the service token is for another audience",
            ErrorKind::MissingRequiredClaim(_) => "the service token lacks a required claim",
            _ => "the service token is malformed",
        })
    }
}
