//! The bucket that reports are kept in.

use anyhow::anyhow;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::DisplayErrorContext;
use aws_sdk_s3::primitives::ByteStream;
use huntaze_costs::report::DailyReport;
use huntaze_domain::env::Env;

pub(crate) struct Archive {
    client: Client,
    bucket: String,
}

impl Archive {
    /// Reads `REPORTS_S3_BUCKET`; nothing is called.
    pub(crate) fn from_env(env: &Env, client: Client) -> Self {
        Self { client, bucket: env.required("REPORTS_S3_BUCKET") }
    }

    /// Keeps a report as JSON and as CSV, over one of the same day, and gives where they are.
    pub(crate) async fn keep(&self, report: &DailyReport) -> anyhow::Result<Vec<String>> {
        let key = report.day.key();
        let json = self.put(format!("{key}.json"), "application/json", report.to_json().to_string());
        let csv = self.put(format!("{key}.csv"), "text/csv; charset=utf-8; header=present", report.to_csv());
        let (json, csv) = tokio::try_join!(json, csv)?;
        Ok(vec![json, csv])
    }

    async fn put(&self, key: String, kind: &str, text: String) -> anyhow::Result<String> {
        let put = self.client.put_object().bucket(&self.bucket).key(&key).content_type(kind);
        let sent = put.body(ByteStream::from(text.into_bytes())).send().await;
        sent.map_err(|error| anyhow!("S3 did not take {key}: {}", DisplayErrorContext(error)))?;
        Ok(format!("s3://{}/{key}", self.bucket))
    }
}
