//! Whole requests: the vectors of the libraries, and the attacks.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use huntaze_domain::ids::UserId;
use huntaze_domain::principal::{Attributes, Principal, Role};
use jiff::Timestamp;
use jsonwebtoken::crypto::rust_crypto;
use jsonwebtoken::{Algorithm, EncodingKey};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{AuthError, ServiceTokens, SessionConfig, SessionConfigError, Sessions, mint};

const SECRET: &str = "test-secret-not-for-production";
const V4: &str = "next-auth.session-token";
const V4_SECURE: &str = "__Secure-next-auth.session-token";
const V5: &str = "authjs.session-token";
const V5_SECURE: &str = "__Secure-authjs.session-token";
const COOKIES: [&str; 4] = [V4, V4_SECURE, V5, V5_SECURE];

/// When the vectors were made.
const NOW: i64 = 1_795_288_010;

const HS_SECRET: &str = "a-service-secret-of-at-least-32-bytes";
const PUBLIC_KEY: &str = include_str!("../../../../tests/fixtures/service/rs256-public.pem");
const PRIVATE_KEY: &str = include_str!("../../../../tests/fixtures/service/rs256-private.pem");

/// An RSA key of 1024 bits.
const WEAK_PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDKT/NsR5qDarLje9FH8xvFjShH\n\
cac5HAnKrXx1ytlzAFpoTpyXLS4TN2qXayrTiJDJbvB2fQmQVMfSV3l08qFHEVAg\n\
rWIXh/Y0HGakcGIkzzsrtkIVjjCQwxj4aCl/8HRbcOy8mYOEZwUTIvB1FrEodrEf\n\
lKksajFWJCGWD8O2owIDAQAB\n\
-----END PUBLIC KEY-----";

pub(super) fn fixture() -> Value {
    serde_json::from_str(include_str!("../../../../tests/fixtures/nextauth/vectors.json")).unwrap()
}

fn config(secrets: &[&str]) -> SessionConfig {
    SessionConfig {
        secrets: secrets.iter().map(|secret| (*secret).to_owned()).collect(),
        role_claim: "role".to_owned(),
        service: None,
        allowed_origins: vec!["https://app.huntaze.com".to_owned()],
    }
}

fn service_tokens() -> ServiceTokens {
    ServiceTokens {
        hs256_secret: Some(HS_SECRET.to_owned()),
        rs256_public_key_pem: Some(PUBLIC_KEY.to_owned()),
        issuer: "huntaze-platform".to_owned(),
        audience: "huntaze-orchestrator".to_owned(),
    }
}

fn sessions(secrets: &[&str]) -> Sessions {
    Sessions::new(config(secrets)).ok().unwrap()
}

fn sessions_with(service: ServiceTokens) -> Sessions {
    Sessions::new(SessionConfig { service: Some(service), ..config(&[SECRET]) }).ok().unwrap()
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    let mut map = HeaderMap::new();
    for (name, value) in pairs.iter().map(pair) {
        map.append(name, value);
    }
    map
}

fn ask(sessions: &Sessions, pairs: &[(&'static str, &str)]) -> Result<Principal, AuthError> {
    sessions.authenticate(&Method::GET, &headers(pairs), Timestamp::from_second(NOW).unwrap())
}

fn by_cookie(sessions: &Sessions, name: &str, token: &str) -> Result<Principal, AuthError> {
    ask(sessions, &[("cookie", &format!("{name}={token}"))])
}

fn by_bearer(sessions: &Sessions, token: &str) -> Result<Principal, AuthError> {
    ask(sessions, &[("authorization", &format!("Bearer {token}"))])
}

fn caller(id: &str, role: Role) -> Result<Principal, AuthError> {
    Ok(Principal { user_id: UserId::parse(id).unwrap(), role, attributes: Attributes::default() })
}

/// The caller of a session with [`claims`].
fn ana() -> Result<Principal, AuthError> {
    caller("ana", Role::Creator)
}

fn claims() -> Value {
    json!({"sub": "ana", "role": "creator", "iat": NOW, "exp": NOW + 3600})
}

fn unauthenticated(answer: &Result<Principal, AuthError>) -> bool {
    matches!(answer, Err(AuthError::Unauthenticated(_)))
}

#[track_caller]
fn assert_refused(answer: &Result<Principal, AuthError>, what: impl std::fmt::Display) {
    assert!(unauthenticated(answer), "{what}: {answer:?}");
}

// The vectors.

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn every_good_vector_opens_as_cookie_and_as_bearer() {
    let fixture = fixture();
    let mut checked = 0;
    for vector in fixture["vectors"].as_array().unwrap() {
        if vector["valid"] != true || vector["expect_api"] == "reject" {
            continue;
        }
        let id = &vector["id"];
        let rotated = texts(&vector["decode_secret"]);
        let sessions = sessions(if rotated.is_empty() { &[SECRET] } else { &rotated });
        let token = vector["token"].as_str().unwrap();
        let claims = &vector["claims"];
        let expected =
            caller(claims["sub"].as_str().unwrap(), Role::from_claim(claims["role"].as_str().unwrap_or_default()));

        assert_eq!(by_bearer(&sessions, token), expected, "{id} as Bearer");
        // A v4 token opens under both v4 names, a v5 token under its own name only.
        let own = vector["salt"].as_str().map_or(vec![V4, V4_SECURE], |name| vec![name]);
        for name in COOKIES {
            let answer = by_cookie(&sessions, name, token);
            if own.contains(&name) {
                assert_eq!(answer, expected, "{id} in {name}");
            } else {
                assert_refused(&answer, format!("{id} in {name}"));
            }
        }
        // The cookies as the library set them, the last first.
        let cookies: Vec<String> = vector["cookies"]
            .as_array()
            .into_iter()
            .flatten()
            .rev()
            .map(|cookie| format!("{}={}", cookie["name"].as_str().unwrap(), cookie["value"].as_str().unwrap()))
            .collect();
        if !cookies.is_empty() {
            assert_eq!(ask(&sessions, &[("cookie", &cookies.join("; "))]), expected, "{id} in one header");
            let split: Vec<_> = cookies.iter().map(|cookie| ("cookie", cookie.as_str())).collect();
            assert_eq!(ask(&sessions, &split), expected, "{id} in several headers");
        }
        checked += 1;
    }
    assert_eq!(checked, 9, "the good vectors of the fixture");
}

#[test]
fn every_bad_vector_is_refused_as_cookie_and_as_bearer() {
    let fixture = fixture();
    let strict = sessions(&[SECRET]);
    let with_service = sessions_with(service_tokens());
    let mut checked = 0;
    for vector in fixture["vectors"].as_array().unwrap() {
        if vector["valid"] == true && vector["expect_api"] != "reject" {
            continue;
        }
        let id = vector["id"].as_str().unwrap();
        let token = vector["token"].as_str().unwrap();
        for sessions in [&strict, &with_service] {
            for name in COOKIES {
                // Made for the secure cookie: a good token there, and as Bearer, which does not say its cookie.
                if id == "v5-wrong-salt" && name == V5_SECURE {
                    continue;
                }
                assert_refused(&by_cookie(sessions, name, token), format!("{id} in {name}"));
            }
            if id != "v5-wrong-salt" {
                assert_refused(&by_bearer(sessions, token), format!("{id} as Bearer"));
            }
        }
        checked += 1;
    }
    assert_eq!(checked, 23, "the bad vectors of the fixture");
}

// Cutting and bending tokens.

/// A good token of each kind, and the cookie that it is good in.
fn good_tokens() -> [(&'static str, String); 3] {
    let former = mint::gcm(&mint::v5_key(SECRET, V5), &json!({"alg": "dir", "enc": "A256GCM"}), &claims());
    [(V4, mint::v4(SECRET, &claims())), (V5, mint::v5(SECRET, V5, &claims())), (V5, former)]
}

#[test]
fn a_tag_of_any_other_length_is_refused() {
    let sessions = sessions(&[SECRET]);
    for (name, token) in good_tokens() {
        assert_eq!(by_cookie(&sessions, name, &token), ana(), "{name}");
        assert_eq!(by_bearer(&sessions, &token), ana(), "{name}");
        let (rest, tag) = token.rsplit_once('.').unwrap();
        let tag = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, tag).unwrap();
        let longer: Vec<u8> = tag.iter().copied().chain([0; 48]).collect();
        for length in (0..longer.len()).filter(|length| *length != tag.len()) {
            let token = format!("{rest}.{}", mint::encode(&longer[..length]));
            assert_refused(&by_cookie(&sessions, name, &token), format!("{name}, a tag of {length} bytes"));
            assert_refused(&by_bearer(&sessions, &token), format!("{name}, a tag of {length} bytes"));
        }
    }
}

#[test]
fn a_token_has_five_strictly_encoded_parts() {
    let sessions = sessions(&[SECRET]);
    for (name, token) in good_tokens() {
        let (rest, tag) = token.rsplit_once('.').unwrap();
        for bent in [
            rest.to_owned(),
            format!("{token}."),
            format!("{token}.{tag}"),
            format!(".{token}"),
            format!("{token}="),
            format!("{token}=="),
            format!("{rest}.+{}", &tag[1..]),
            format!("{rest}. {tag}"),
            token.replacen("..", ".", 1),
            token.replacen("..", ".AAAA.", 1),
            token.replacen("..", "...", 1),
            format!("{}{token}", mint::encode("x".repeat(2000))),
        ] {
            assert_refused(&by_cookie(&sessions, name, &bent), &bent);
            assert_refused(&by_bearer(&sessions, &bent), &bent);
        }
    }
}

#[test]
fn a_header_that_asks_for_anything_else_is_refused() {
    let sessions = sessions(&[SECRET]);
    let v4 = mint::key(SECRET, "", "NextAuth.js Generated Encryption Key");
    let v5 = mint::v5_key(SECRET, V5);
    let good = mint::gcm(&v4, &json!({"alg": "dir", "enc": "A256GCM", "typ": "JWT"}), &claims());
    assert_eq!(by_cookie(&sessions, V4, &good), ana(), "a header that is not about decryption changes nothing");
    for header in [
        json!({"alg": "dir", "enc": "A256GCM", "crit": ["exp"]}),
        json!({"alg": "dir", "enc": "A256GCM", "crit": null}),
        json!({"alg": "dir", "enc": "A256GCM", "zip": "DEF"}),
        json!({"alg": "dir", "enc": "A256CBC-HS512"}),
        json!({"alg": "dir", "enc": "A128GCM"}),
        json!({"alg": "dir", "enc": "a256gcm"}),
        json!({"alg": "dir"}),
        json!({"enc": "A256GCM"}),
        json!({"alg": "none", "enc": "A256GCM"}),
        json!({"alg": "A256KW", "enc": "A256GCM"}),
        json!({"alg": ["dir"], "enc": "A256GCM"}),
        json!(["dir", "A256GCM"]),
        json!("dir"),
        json!({"alg": "dir", "enc": "A256GCM", "x": "x".repeat(1000)}),
    ] {
        let token = mint::gcm(&v4, &header, &claims());
        assert_refused(&by_cookie(&sessions, V4, &token), &header);
        assert_refused(&by_bearer(&sessions, &token), &header);
    }
    for header in [
        json!({"alg": "dir", "enc": "A256GCM"}),
        json!({"alg": "dir", "enc": "A256CBC-HS512", "kid": "another"}),
        json!({"alg": "dir", "enc": "A256CBC-HS512", "kid": null}),
        json!({"alg": "dir", "enc": "A256CBC-HS512", "crit": []}),
        json!({"alg": "RSA-OAEP", "enc": "A256CBC-HS512"}),
    ] {
        let token = mint::cbc(&v5, &header, &claims());
        assert_refused(&by_cookie(&sessions, V5, &token), &header);
    }
}

#[test]
fn claims_that_are_no_object_are_refused() {
    let sessions = sessions(&[SECRET]);
    let nested = (0..200).fold(json!(1), |inner, _| json!([inner]));
    for content in
        [json!([claims()]), json!("ana"), json!(null), json!({"sub": "ana", "exp": NOW + 60, "deep": nested})]
    {
        assert_refused(&by_cookie(&sessions, V4, &mint::v4(SECRET, &content)), &content);
        assert_refused(&by_cookie(&sessions, V5, &mint::v5(SECRET, V5, &content)), &content);
    }
}

#[test]
fn a_bearer_token_is_bounded() {
    let sessions = sessions(&[SECRET]);
    let token = |padding: usize| {
        mint::v4(SECRET, &json!({"sub": "ana", "role": "creator", "exp": NOW + 60, "padding": "x".repeat(padding)}))
    };
    assert_eq!(by_bearer(&sessions, &token(48_000)), ana());
    assert_refused(&by_bearer(&sessions, &token(50_000)), "more than 64 KiB");
}

#[test]
fn the_clock_tolerance_reaches_the_whole_request() {
    let sessions = sessions(&[SECRET]);
    for (exp, good) in [(NOW - 14, true), (NOW - 15, false)] {
        let claims = json!({"sub": "ana", "role": "creator", "exp": exp});
        for answer in
            [by_cookie(&sessions, V4, &mint::v4(SECRET, &claims)), by_bearer(&sessions, &mint::v5(SECRET, V5, &claims))]
        {
            assert_eq!(answer.is_ok(), good, "{exp}");
        }
    }
}

// Secrets.

#[test]
fn every_secret_opens_in_any_order() {
    let (old, new) = ("the-old-secret", "the-new-secret");
    for secrets in [[old, new], [new, old]] {
        let sessions = sessions(&secrets);
        for secret in secrets {
            assert_eq!(by_cookie(&sessions, V4, &mint::v4(secret, &claims())), ana());
            let no_kid =
                mint::cbc(&mint::v5_key(secret, V5), &json!({"alg": "dir", "enc": "A256CBC-HS512"}), &claims());
            for token in [mint::v5(secret, V5, &claims()), no_kid] {
                assert_eq!(by_cookie(&sessions, V5, &token), ana());
                assert_eq!(by_bearer(&sessions, &token), ana());
            }
        }
    }
    assert_refused(&by_cookie(&sessions(&[new]), V4, &mint::v4(old, &claims())), "a secret that was taken out");
}

#[test]
fn a_configuration_that_cannot_work_names_its_field() {
    let with = |change: fn(&mut ServiceTokens)| {
        let mut service = service_tokens();
        change(&mut service);
        SessionConfig { service: Some(service), ..config(&[SECRET]) }
    };
    for (config, field) in [
        (config(&[]), "secrets"),
        (config(&[SECRET, " "]), "secrets"),
        (SessionConfig { role_claim: String::new(), ..config(&[SECRET]) }, "role_claim"),
        (SessionConfig { allowed_origins: vec!["*".to_owned()], ..config(&[SECRET]) }, "allowed_origins"),
        (with(|service| service.issuer.clear()), "service.issuer"),
        (with(|service| service.audience.clear()), "service.audience"),
        (with(|service| service.hs256_secret = Some("x".repeat(31))), "service.hs256_secret"),
        (with(|service| service.rs256_public_key_pem = Some("no pem".to_owned())), "service.rs256_public_key_pem"),
        (with(|service| service.rs256_public_key_pem = Some(WEAK_PUBLIC_KEY.into())), "service.rs256_public_key_pem"),
        (with(|service| service.rs256_public_key_pem = Some(PRIVATE_KEY.into())), "service.rs256_public_key_pem"),
        (with(|service| (service.hs256_secret, service.rs256_public_key_pem) = (None, None)), "service"),
    ] {
        let SessionConfigError { field: named, problem } = Sessions::new(config).err().unwrap();
        assert_eq!(named, field, "{problem}");
    }
}

// Where a token comes from.

#[test]
fn a_cookie_beats_a_bearer_token_even_if_it_is_bad() {
    let sessions = sessions(&[SECRET]);
    let bob = mint::v4(SECRET, &json!({"sub": "bob", "exp": NOW + 60}));
    let bearer = ("authorization", &*format!("Bearer {bob}"));
    let cookie = |token: &str| format!("{V4}={token}");
    let good = cookie(&mint::v4(SECRET, &claims()));
    assert_eq!(ask(&sessions, &[("cookie", &good), bearer]), ana());
    assert_refused(&ask(&sessions, &[("cookie", &cookie("bad")), bearer]), "a bad cookie");
    assert_refused(&ask(&sessions, &[("cookie", &format!("{V4}.1=x")), bearer]), "a cookie that lacks a chunk");
    for absent in ["theme=dark", &cookie("")] {
        assert_eq!(ask(&sessions, &[("cookie", absent), bearer]), caller("bob", Role::User), "{absent}");
    }
}

#[test]
fn a_bearer_token_may_be_percent_encoded() {
    let sessions = sessions(&[SECRET]);
    let token = mint::v5(SECRET, V5_SECURE, &claims());
    let encoded: String = token.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for value in [
        format!("Bearer {token}"),
        format!("bearer {token}"),
        format!("BEARER   {token} "),
        format!("Bearer {encoded}"),
        format!("Bearer {}", token.replace('.', "%2e")),
    ] {
        assert_eq!(ask(&sessions, &[("authorization", &value)]), ana(), "{value}");
    }
    for value in [
        "".to_owned(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        token.clone(),
        format!("Basic {token}"),
        format!("Bearer{token}"),
        format!("Bearer {token}%"),
        format!("Bearer {token}%4"),
        format!("Bearer %zz{token}"),
        format!("Bearer %ff{token}"),
        format!("Bearer %00{token}"),
        format!("Bearer {}", token.replace('.', "%252e")),
        format!("Bearer {token}, Bearer {token}"),
        format!("Bearer {token} {token}"),
        format!("Bearer {}", "A".repeat(70_000)),
    ] {
        assert_refused(&ask(&sessions, &[("authorization", &value)]), &value);
    }
    let good = ("authorization", &*format!("Bearer {token}"));
    assert_eq!(ask(&sessions, &[good]), ana());
    assert_refused(&ask(&sessions, &[good, good]), "twice");
    assert_refused(&ask(&sessions, &[]), "nothing");
}

#[test]
fn a_token_of_another_purpose_is_refused() {
    let sessions = sessions(&[SECRET]);
    for other in ["authjs.callback-url", "authjs.pkce.code_verifier", "__Host-authjs.csrf-token", ""] {
        let token = mint::v5(SECRET, other, &claims());
        assert_refused(&by_bearer(&sessions, &token), other);
        for name in COOKIES {
            assert_refused(&by_cookie(&sessions, name, &token), other);
        }
    }
    let v4 = mint::v4(SECRET, &claims());
    assert_refused(&by_cookie(&sessions, V5, &v4), "a v4 token in a v5 cookie");
    assert_refused(&by_cookie(&sessions, V4, &mint::v5(SECRET, V5, &claims())), "a v5 token in a v4 cookie");
}

#[test]
fn a_cookie_is_good_only_from_an_allowed_origin() {
    let sessions = sessions(&[SECRET]);
    let token = mint::v4(SECRET, &claims());
    let cookie = ("cookie", &*format!("{V4}={token}"));
    let bearer = ("authorization", &*format!("Bearer {token}"));
    let now = Timestamp::from_second(NOW).unwrap();
    let (ours, theirs) = (("origin", "https://app.huntaze.com"), ("origin", "https://evil.example"));
    for (method, pairs, expected) in [
        (Method::GET, &[cookie][..], ana()),
        (Method::GET, &[cookie, ours], ana()),
        (Method::GET, &[cookie, theirs], Err(AuthError::ForbiddenOrigin)),
        (Method::POST, &[cookie], Err(AuthError::ForbiddenOrigin)),
        (Method::POST, &[cookie, ours], ana()),
        (Method::POST, &[cookie, theirs], Err(AuthError::ForbiddenOrigin)),
        (Method::POST, &[cookie, bearer], Err(AuthError::ForbiddenOrigin)),
        (Method::POST, &[cookie, ("referer", "https://app.huntaze.com/x")], ana()),
        (Method::POST, &[bearer], ana()),
        (Method::POST, &[bearer, theirs], ana()),
    ] {
        assert_eq!(sessions.authenticate(&method, &headers(pairs), now), expected, "{method} {pairs:?}");
    }
    let bad = headers(&[("cookie", &format!("{V4}=bad")), theirs]);
    assert_refused(&sessions.authenticate(&Method::POST, &bad, now), "a bad session is 401 from anywhere");
}

#[test]
fn the_role_claim_is_named_by_configuration() {
    let sessions = Sessions::new(SessionConfig { role_claim: "https://huntaze/role".to_owned(), ..config(&[SECRET]) });
    let claims = json!({"sub": "ana", "exp": NOW + 60, "role": "admin", "https://huntaze/role": ["creator"]});
    assert_eq!(by_cookie(&sessions.ok().unwrap(), V4, &mint::v4(SECRET, &claims)), ana());
}

#[test]
fn a_refusal_holds_nothing_of_the_token() {
    let token = "secretpart.secretpart.secretpart.secretpart.secretpart";
    for answer in [by_cookie(&sessions(&[SECRET]), V4, token), by_bearer(&sessions(&[SECRET]), token)] {
        assert!(!answer.unwrap_err().to_string().contains("secretpart"));
    }
}

// Service tokens.

fn service_claims() -> Value {
    json!({"sub": "svc-mailer", "role": "admin", "iss": "huntaze-platform", "aud": "huntaze-orchestrator",
        "iat": NOW, "exp": NOW + 300})
}

fn without(claim: &str) -> Value {
    let mut claims = service_claims();
    claims.as_object_mut().unwrap().remove(claim);
    claims
}

fn with(claim: &str, value: Value) -> Value {
    let mut claims = service_claims();
    claims[claim] = value;
    claims
}

fn signed(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    signed_with(&json!({"typ": "JWT", "alg": algorithm}), algorithm, key, claims)
}

/// By the crate's own backend: what is read here is read by ours.
fn signed_with(header: &Value, algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    let message = format!("{}.{}", mint::encode(header.to_string()), mint::encode(claims.to_string()));
    let signer = (rust_crypto::DEFAULT_PROVIDER.signer_factory)(&algorithm, key).unwrap();
    format!("{message}.{}", mint::encode(signer.try_sign(message.as_bytes()).unwrap()))
}

fn hs256(claims: &Value) -> String {
    signed(Algorithm::HS256, &EncodingKey::from_secret(HS_SECRET.as_bytes()), claims)
}

fn rs256(claims: &Value) -> String {
    signed(Algorithm::RS256, &EncodingKey::from_rsa_pem(PRIVATE_KEY.as_bytes()).unwrap(), claims)
}

#[test]
fn a_service_token_is_taken_as_bearer_only_and_only_if_configured() {
    let service = sessions_with(service_tokens());
    let admin = caller("svc-mailer", Role::Admin);
    for token in [hs256(&service_claims()), rs256(&service_claims())] {
        assert_eq!(by_bearer(&service, &token), admin);
        assert_eq!(by_bearer(&service, &token.replace('.', "%2E")), admin);
        for name in COOKIES {
            assert_refused(&by_cookie(&service, name, &token), name);
        }
        assert_refused(&by_bearer(&sessions(&[SECRET]), &token), "no service is configured");
    }
    assert_eq!(by_bearer(&service, &hs256(&with("aud", json!(["x", "huntaze-orchestrator"])))), admin);
    assert_eq!(by_bearer(&service, &mint::v4(SECRET, &claims())), ana(), "a session beside it");
}

#[test]
fn a_service_token_needs_all_its_claims() {
    let service = sessions_with(service_tokens());
    for claims in [
        without("sub"),
        without("exp"),
        without("iss"),
        without("aud"),
        with("iss", json!("another")),
        with("aud", json!("another")),
        with("aud", json!(["another"])),
        with("aud", json!([])),
        with("aud", json!(null)),
        with("sub", json!("a b")),
        with("exp", json!(NOW - 15)),
        with("exp", json!("2099")),
        with("nbf", json!(NOW + 16)),
        with("iat", json!(NOW + 16)),
        json!([service_claims()]),
    ] {
        assert_refused(&by_bearer(&service, &hs256(&claims)), &claims);
    }
    for claims in [with("exp", json!(NOW - 14)), with("nbf", json!(NOW + 15)), with("iat", json!(NOW + 15))] {
        assert!(by_bearer(&service, &hs256(&claims)).is_ok(), "{claims}");
    }
}

#[test]
fn each_service_key_has_one_algorithm() {
    let service = sessions_with(service_tokens());
    let claims = service_claims();
    let hmac_of = |secret: &[u8]| EncodingKey::from_secret(secret);
    let rsa = EncodingKey::from_rsa_pem(PRIVATE_KEY.as_bytes()).unwrap();
    for (what, token) in [
        ("HS256 with the public key", signed(Algorithm::HS256, &hmac_of(PUBLIC_KEY.as_bytes()), &claims)),
        (
            "HS256 with the trimmed public key",
            signed(Algorithm::HS256, &hmac_of(PUBLIC_KEY.trim().as_bytes()), &claims),
        ),
        ("HS256 with NextAuth's secret", signed(Algorithm::HS256, &hmac_of(SECRET.as_bytes()), &claims)),
        ("HS512", signed(Algorithm::HS512, &hmac_of(HS_SECRET.as_bytes()), &claims)),
        ("RS512", signed(Algorithm::RS512, &rsa, &claims)),
        ("PS256", signed(Algorithm::PS256, &rsa, &claims)),
    ] {
        assert_refused(&by_bearer(&service, &token), what);
    }
    let only_rsa = sessions_with(ServiceTokens { hs256_secret: None, ..service_tokens() });
    assert_refused(&by_bearer(&only_rsa, &signed(Algorithm::HS256, &hmac_of(PUBLIC_KEY.as_bytes()), &claims)), "HS");
    assert_refused(&by_bearer(&only_rsa, &hs256(&claims)), "HS256 is not configured");
    let only_hmac = sessions_with(ServiceTokens { rs256_public_key_pem: None, ..service_tokens() });
    assert_refused(&by_bearer(&only_hmac, &rs256(&claims)), "RS256 is not configured");
}

#[test]
fn an_unsigned_or_cut_service_token_is_refused() {
    let service = sessions_with(service_tokens());
    let token = hs256(&service_claims());
    let (message, signature) = token.rsplit_once('.').unwrap();
    let payload = message.split_once('.').unwrap().1;
    for length in 0..signature.len() {
        assert_refused(&by_bearer(&service, &format!("{message}.{}", &signature[..length])), length);
    }
    for header in
        [json!({"alg": "none"}), json!({"alg": "None"}), json!({"typ": "JWT"}), json!({"alg": "dir", "enc": "A256GCM"})]
    {
        let header = mint::encode(header.to_string());
        assert_refused(&by_bearer(&service, &format!("{header}.{payload}.")), &header);
        assert_refused(&by_bearer(&service, &format!("{header}.{payload}.{signature}")), &header);
    }
    for bent in [format!("{token}."), format!("{token}="), format!(".{token}"), message.to_owned(), "..".to_owned()] {
        assert_refused(&by_bearer(&service, &bent), &bent);
    }
    let crit = json!({"alg": "HS256", "crit": ["b64"]});
    let key = EncodingKey::from_secret(HS_SECRET.as_bytes());
    assert_refused(&by_bearer(&service, &signed_with(&crit, Algorithm::HS256, &key, &service_claims())), "crit");
}

// Anything at all.

/// What looks enough like a request to reach the inner rules.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "next-auth.session-token",
            "__Secure-authjs.session-token",
            "authjs.session-token",
            ".0",
            ".1",
            ".16",
            "=",
            ";",
            " ",
            ".",
            "..",
            "%",
            "%2e",
            "%ff",
            "\"",
            "Bearer ",
            "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0",
            "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2Q0JDLUhTNTEyIn0",
            "eyJhbGciOiJIUzI1NiJ9",
            "eyJhbGciOiJSUzI1NiJ9",
            "AAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAAA",
            "e30",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn raw(name: &'static str, bytes: &[u8]) -> HeaderMap {
    HeaderValue::from_bytes(bytes)
        .map(|value| HeaderMap::from_iter([(HeaderName::from_static(name), value)]))
        .unwrap_or_default()
}

proptest! {
    #[test]
    fn no_bytes_make_a_session_or_a_panic(
        bytes in prop_oneof![nearly(), prop::collection::vec(any::<u8>(), 0..512)],
        method in prop::sample::select(vec![Method::GET, Method::POST]),
    ) {
        static SESSIONS: LazyLock<Sessions> = LazyLock::new(|| sessions_with(service_tokens()));
        let bearer = [b"Bearer ".as_slice(), &bytes].concat();
        let cookie = [b"next-auth.session-token=".as_slice(), &bytes].concat();
        let requests =
            [("cookie", &bytes), ("cookie", &cookie), ("authorization", &bytes), ("authorization", &bearer)];
        for (name, value) in requests {
            let answer = SESSIONS.authenticate(&method, &raw(name, value), Timestamp::from_second(NOW).unwrap());
            prop_assert!(unauthenticated(&answer), "{:?}", answer);
        }
    }

    #[test]
    fn no_claims_make_a_panic(exp in any::<f64>(), iat in any::<i64>(), nbf in any::<u64>(), sub in ".{0,40}") {
        let claims = json!({"sub": sub, "exp": exp, "iat": iat, "nbf": nbf});
        let claims: &Map<String, Value> = claims.as_object().unwrap();
        for now in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
            let _ = super::claims::principal(claims, "role", now);
        }
    }
}

/// Every place of every kind of token, with several other bytes each.
#[test]
fn a_token_with_one_other_byte_is_refused() {
    let sessions = sessions_with(service_tokens());
    let service = hs256(&service_claims());
    assert!(by_bearer(&sessions, &service).is_ok());
    let sessions_only = good_tokens();
    let all = sessions_only.iter().map(|(name, token)| (Some(*name), token)).chain([(None, &service)]);
    for (name, token) in all {
        for place in 0..token.len() {
            let old = token.as_bytes()[place];
            let others = [old ^ 1, old ^ 2, old ^ 0x20, b'A', b'.', b'%', b' ', b';', b'=', 0xff];
            for new in others.into_iter().filter(|new| *new != old) {
                let mut bent = token.clone().into_bytes();
                bent[place] = new;
                let mut requests = vec![raw("authorization", &[b"Bearer ".as_slice(), &bent].concat())];
                requests.extend(name.map(|name| raw("cookie", &[name.as_bytes(), b"=", &bent].concat())));
                for headers in requests {
                    let answer = sessions.authenticate(&Method::GET, &headers, Timestamp::from_second(NOW).unwrap());
                    assert_refused(&answer, format!("{name:?}, byte {place} {old:02x} -> {new:02x}"));
                }
            }
        }
    }
}
