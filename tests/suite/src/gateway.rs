//! API Gateway's side of a Lambda function: HTTP API events (payload format 2.0) and the answers to them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::now;

const HOST: &str = "api.huntaze.test";

/// A request of a client, before API Gateway makes an event of it.
#[derive(Clone, Debug)]
pub struct Request {
    method: &'static str,
    path: String,
    query: Vec<(String, String)>,
    /// As it was written, in place of the parameters.
    raw_query: Option<String>,
    headers: BTreeMap<String, String>,
    cookies: Vec<String>,
    body: Option<Vec<u8>>,
    time: Option<Timestamp>,
}

impl Request {
    /// A request with this method.
    #[must_use]
    pub fn new(method: &'static str, path: &str) -> Self {
        let headers =
            [("accept", "*/*"), ("host", HOST), ("user-agent", "huntaze-tests"), ("x-forwarded-for", "192.0.2.1")];
        Self {
            method,
            path: path.to_owned(),
            query: Vec::new(),
            raw_query: None,
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            cookies: Vec::new(),
            body: None,
            time: None,
        }
    }

    /// A GET.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// A POST.
    #[must_use]
    pub fn post(path: &str) -> Self {
        Self::new("POST", path)
    }

    /// A PUT.
    #[must_use]
    pub fn put(path: &str) -> Self {
        Self::new("PUT", path)
    }

    /// A DELETE.
    #[must_use]
    pub fn delete(path: &str) -> Self {
        Self::new("DELETE", path)
    }

    /// With a header; one given twice is joined by a comma, as API Gateway does.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers
            .entry(name.to_ascii_lowercase())
            .and_modify(|values| *values = format!("{values},{value}"))
            .or_insert_with(|| value.to_owned());
        self
    }

    /// With `Authorization: Bearer …`.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// With `Idempotency-Key`.
    #[must_use]
    pub fn idempotency_key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    /// With a cookie. Those of a browser come from a page, which [`Request::origin`] names.
    #[must_use]
    pub fn cookie(mut self, name: &str, value: &str) -> Self {
        self.cookies.push(format!("{name}={value}"));
        self
    }

    /// With `Origin`.
    #[must_use]
    pub fn origin(self, origin: &str) -> Self {
        self.header("origin", origin)
    }

    /// With a query parameter, written plainly.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this query, as it is written.
    #[must_use]
    pub fn written_query(mut self, query: &str) -> Self {
        self.raw_query = Some(query.to_owned());
        self
    }

    /// With a JSON body.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    /// With a body of any bytes; those that are no UTF-8 are passed on in base64.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Received by API Gateway at this time, in place of now.
    #[must_use]
    pub fn received_at(mut self, time: Timestamp) -> Self {
        self.time = Some(time);
        self
    }

    /// The event of API Gateway.
    #[must_use]
    pub fn event(&self) -> Value {
        let time = self.time.unwrap_or_else(now);
        let route = format!("{} {}", self.method, self.path);
        let trace = Uuid::new_v4().simple().to_string();
        let mut event = json!({
            "version": "2.0",
            "routeKey": route,
            "rawPath": self.path,
            "rawQueryString": self.raw_query(),
            "headers": self.headers,
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "t3st0api1d",
                "domainName": HOST,
                "domainPrefix": "api",
                "http": {
                    "method": self.method,
                    "path": self.path,
                    "protocol": "HTTP/1.1",
                    "sourceIp": "192.0.2.1",
                    "userAgent": "huntaze-tests",
                },
                "requestId": format!("{}=", &trace[..15]),
                "routeKey": route,
                "stage": "$default",
                "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string(),
                "timeEpoch": time.as_millisecond(),
            },
            "isBase64Encoded": false,
        });
        if !self.headers.contains_key("x-amzn-trace-id") {
            event["headers"]["x-amzn-trace-id"] = format!("Root=1-{}-{}", &trace[..8], &trace[8..]).into();
        }
        if !self.cookies.is_empty() {
            event["cookies"] = json!(self.cookies);
        }
        if !self.query.is_empty() {
            event["queryStringParameters"] = json!(self.joined_query());
        }
        if let Some(body) = &self.body {
            event["headers"]["content-length"] = body.len().to_string().into();
            match std::str::from_utf8(body) {
                Ok(text) => event["body"] = text.into(),
                Err(_) => {
                    event["body"] = STANDARD.encode(body).into();
                    event["isBase64Encoded"] = true.into();
                }
            }
        }
        event
    }

    fn raw_query(&self) -> String {
        if let Some(written) = &self.raw_query {
            return written.clone();
        }
        let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        let pairs = self.query.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value)));
        pairs.collect::<Vec<_>>().join("&")
    }

    fn joined_query(&self) -> BTreeMap<&str, String> {
        let mut joined = BTreeMap::<_, String>::new();
        for (name, value) in &self.query {
            joined
                .entry(name.as_str())
                .and_modify(|values| *values = format!("{values},{value}"))
                .or_insert_with(|| value.clone());
        }
        joined
    }
}

/// The answer of a function, as API Gateway passes it on.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers by their lower-cased names; several of one name are joined by a comma.
    pub headers: BTreeMap<String, String>,
    /// The `Set-Cookie` values.
    pub cookies: Vec<String>,
    /// The body: JSON, else text, else null.
    pub body: Value,
    /// The body as it goes out.
    pub bytes: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProxyAnswer {
    status_code: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    multi_value_headers: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    cookies: Vec<String>,
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

impl Response {
    /// Reads the answer of a function.
    ///
    /// # Errors
    /// If API Gateway could not pass it on.
    pub fn parse(answer: &Value) -> Result<Self, serde_json::Error> {
        let answer = ProxyAnswer::deserialize(answer)?;
        let many = answer.multi_value_headers.into_iter().map(|(name, values)| (name, values.join(",")));
        let headers = many.chain(answer.headers).map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        let body = answer.body.unwrap_or_default();
        let bytes = if answer.is_base64_encoded {
            STANDARD.decode(body).map_err(serde::de::Error::custom)?
        } else {
            body.into_bytes()
        };
        let body = match serde_json::from_slice(&bytes) {
            Ok(json) => json,
            Err(_) if bytes.is_empty() => Value::Null,
            Err(_) => Value::String(String::from_utf8_lossy(&bytes).into_owned()),
        };
        Ok(Self { status: answer.status_code, headers, cookies: answer.cookies, body, bytes })
    }

    /// A header, by its name in lower case; empty if it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// The event in `events/<path>`, verbatim.
///
/// # Errors
/// If there is no such file, or it is not JSON.
pub fn load_event(path: &str) -> anyhow::Result<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events").join(path);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_what_api_gateway_sends() {
        let time = "2026-11-21T10:20:30.456Z".parse().unwrap();
        let event = Request::get("/api/v2/campaigns/status")
            .query("limit", "5")
            .query("cursor", "a b&ü")
            .header("X-Twice", "1")
            .header("x-twice", "2")
            .cookie("session", "abc")
            .received_at(time)
            .event();
        assert_eq!(event["version"], "2.0");
        assert_eq!(event["routeKey"], "GET /api/v2/campaigns/status");
        assert_eq!(event["rawQueryString"], "limit=5&cursor=a%20b%26%C3%BC");
        assert_eq!(event["queryStringParameters"], json!({ "limit": "5", "cursor": "a b&ü" }));
        assert_eq!(event["headers"]["x-twice"], "1,2");
        assert_eq!(event["cookies"], json!(["session=abc"]));
        assert_eq!(event["requestContext"]["time"], "21/Nov/2026:10:20:30 +0000");
        assert_eq!(event["requestContext"]["timeEpoch"], 1_795_256_430_456_u64);
        assert!(event.get("body").is_none());
    }

    #[test]
    fn a_body_is_text_where_it_can_be() {
        let event = Request::post("/x").json(&json!({ "a": 1 })).event();
        assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!(r#"{"a":1}"#), &json!(false)));
        let event = Request::post("/x").body([0xff, 0xfe]).event();
        assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("//4="), &json!(true)));
    }

    #[test]
    fn an_answer_is_read_as_json_where_it_is() {
        let answer = json!({ "statusCode": 200, "headers": { "Content-Type": "application/json" }, "cookies": ["a=b"],
            "multiValueHeaders": { "Vary": ["Origin", "Cookie"] }, "body": "{\"ok\":true}", "isBase64Encoded": false });
        let response = Response::parse(&answer).unwrap();
        assert_eq!((response.status, &response.body), (200, &json!({ "ok": true })));
        assert_eq!((response.header("content-type"), response.header("vary")), ("application/json", "Origin,Cookie"));
        assert_eq!(response.cookies, ["a=b"]);
        let coded = Response::parse(&json!({ "statusCode": 200, "body": "aGk=", "isBase64Encoded": true })).unwrap();
        assert_eq!(coded.body, "hi");
        assert_eq!(Response::parse(&json!({ "statusCode": 204 })).unwrap().body, Value::Null);
        assert!(Response::parse(&json!({ "body": "no status" })).is_err());
    }
}
