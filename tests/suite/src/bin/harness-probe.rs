//! A function for the harness to try itself on: it does what the event says. Never deployed.

use std::env;
use std::future::pending;
use std::io::{self, Write as _};
use std::process::exit;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    writeln!(io::stderr(), "the probe starts")?;
    if env::var_os("PROBE_DIES").is_some() {
        exit(9);
    }
    lambda_runtime::run(service_fn(handle)).await
}

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let (event, context) = event.into_parts();
    writeln!(io::stdout(), "the probe got {event}")?;
    match event["do"].as_str() {
        Some("fail") => Err("as told".into()),
        Some("exit") => exit(7),
        Some("hang") => pending().await,
        Some("show") => Ok(json!({
            "requestId": context.request_id,
            "deadline": context.deadline,
            "arn": context.invoked_function_arn,
            "trace": context.xray_trace_id,
            "name": context.env_config.function_name,
            "environment": env::vars().map(|(name, _)| name).collect::<Vec<_>>(),
        })),
        _ => Ok(json!({ "statusCode": 200, "body": event.to_string() })),
    }
}
