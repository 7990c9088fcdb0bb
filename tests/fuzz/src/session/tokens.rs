//! Tokens: those of the libraries' vectors, signed ones, and how an input makes its own.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::rust_crypto;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Map, Value, json};

/// When the vectors were made, in seconds: the time of every request.
pub(super) const NOW: i64 = 1_795_288_010;

pub(super) const HS256_SECRET: &str = "a-service-secret-of-at-least-32-bytes";
pub(super) const RS256_PUBLIC_KEY: &str = include_str!("../../../fixtures/service/rs256-public.pem");
const RS256_PRIVATE_KEY: &str = include_str!("../../../fixtures/service/rs256-private.pem");
pub(super) const ISSUER: &str = "huntaze-platform";
pub(super) const AUDIENCE: &str = "huntaze-orchestrator";

/// A token that an input can name.
pub(super) struct Token {
    pub(super) name: String,
    pub(super) text: String,
    /// What it says, if it is one of ours: whether it is still valid is for its reader to find.
    pub(super) good: Option<Good>,
}

/// What a token of ours says.
#[derive(Clone)]
pub(super) struct Good {
    pub(super) claims: Map<String, Value>,
    /// The cookies that it may come in, none for a service's. `Authorization` takes them all.
    pub(super) cookies: &'static [&'static str],
    /// Whether it has to be taken. One that is odd but ours may be refused.
    pub(super) certain: bool,
}

/// Every token that has a name.
pub(super) fn all() -> &'static [Token] {
    static TOKENS: LazyLock<Vec<Token>> = LazyLock::new(|| [vectors(), signed()].into_iter().flatten().collect());
    &TOKENS
}

#[expect(clippy::expect_used, reason = "the fixture is a part of the program")]
pub(super) fn fixture() -> Value {
    serde_json::from_str(include_str!("../../../fixtures/nextauth/vectors.json")).expect("the fixture is JSON")
}

/// The libraries' tokens. `valid` is what the library says, `expect_api` where this API is stricter.
fn vectors() -> Vec<Token> {
    let fixture = fixture();
    let vectors = fixture["vectors"].as_array().into_iter().flatten();
    let tokens = vectors.filter_map(|vector| {
        let text = |name: &str| vector.get(name).and_then(Value::as_str).map(str::to_owned);
        let cookies: &[&str] = match text("salt").as_deref() {
            None => &["next-auth.session-token", "__Secure-next-auth.session-token"],
            Some("authjs.session-token") => &["authjs.session-token"],
            Some(_) => &["__Secure-authjs.session-token"],
        };
        let valid = vector["valid"] == true && vector["expect_api"] != "reject";
        let claims = vector.get("claims").and_then(Value::as_object).filter(|_| valid);
        let good = claims.map(|claims| Good { claims: claims.clone(), cookies, certain: true });
        Some(Token { name: text("id")?, text: text("token")?, good })
    });
    // One is bad only in the cookie that its vector puts it in; what it claims is not said.
    tokens.filter(|token| token.name != "v5-wrong-salt").collect()
}

/// Signed tokens that would take too long to make for every input, or are not made with a key of ours.
fn signed() -> Vec<Token> {
    let claims = json!({"sub": "svc-mailer", "role": "admin", "iss": ISSUER, "aud": AUDIENCE, "exp": NOW + 300});
    let expired = json!({"sub": "svc-mailer", "iss": ISSUER, "aud": AUDIENCE, "exp": NOW - 300});
    let rsa = EncodingKey::from_rsa_pem(RS256_PRIVATE_KEY.as_bytes()).ok();
    let hmac = |secret: &str| Some(EncodingKey::from_secret(secret.as_bytes()));
    let tokens = [
        ("rs256", Algorithm::RS256, rsa.clone(), &claims, true),
        ("rs256-expired", Algorithm::RS256, rsa.clone(), &expired, false),
        ("rs512", Algorithm::RS512, rsa, &claims, false),
        ("hs256-of-the-public-key", Algorithm::HS256, hmac(RS256_PUBLIC_KEY), &claims, false),
        ("hs512", Algorithm::HS512, hmac(HS256_SECRET), &claims, false),
    ];
    let made = tokens.into_iter().filter_map(|(name, algorithm, key, claims, valid)| {
        let header = json!({"typ": "JWT", "alg": algorithm}).to_string();
        let text = sign(&header, &claims.to_string(), algorithm, &key?)?;
        let claims = claims.as_object().filter(|_| valid);
        let good = claims.map(|claims| Good { claims: claims.clone(), cookies: &[], certain: true });
        Some(Token { name: name.to_owned(), text, good })
    });
    made.collect()
}

/// A token with any header and claims, signed with the shared secret.
pub(super) fn hs256(header: &str, claims: &str) -> Option<Token> {
    let key = EncodingKey::from_secret(HS256_SECRET.as_bytes());
    let text = sign(header, claims, Algorithm::HS256, &key)?;
    Some(Token { name: String::new(), text, good: read_signed(header, claims) })
}

fn sign(header: &str, claims: &str, algorithm: Algorithm, key: &EncodingKey) -> Option<String> {
    let message = format!("{}.{}", base64url(header), base64url(claims));
    let signer = (rust_crypto::DEFAULT_PROVIDER.signer_factory)(&algorithm, key).ok()?;
    let signature = signer.try_sign(message.as_bytes()).ok()?;
    Some(format!("{message}.{}", base64url(signature)))
}

/// What a token of an input's own says, if its header asks for nothing but HS256 and it is from our issuer, for our audience.
fn read_signed(header: &str, claims: &str) -> Option<Good> {
    let parsed: Map<String, Value> = serde_json::from_str(header).ok()?;
    if parsed.get("alg")? != "HS256" || parsed.get("crit").is_some_and(|crit| !crit.is_null()) {
        return None;
    }
    let plain_header = [r#"{"alg":"HS256"}"#, r#"{"typ":"JWT","alg":"HS256"}"#].contains(&header);
    let text = claims;
    let claims: Map<String, Value> = serde_json::from_str(text).ok()?;
    let names = |claim: &str, wanted: &str| match claims.get(claim) {
        Some(Value::Array(list)) => list.iter().any(|item| item == wanted),
        other => other.is_some_and(|text| text == wanted),
    };
    if !names("iss", ISSUER) || !names("aud", AUDIENCE) {
        return None;
    }
    let plain_claims = ["iss", "aud", "sub"].iter().all(|name| claims.get(*name).is_some_and(Value::is_string))
        && claims.get("exp").is_some_and(Value::is_u64)
        // No name twice: two readers could take two different values.
        && serde_json::to_string(&claims).is_ok_and(|written| written == text);
    Some(Good { claims, cookies: &[], certain: plain_header && plain_claims })
}

pub(super) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
