//! Queue `huntaze-email`: writes the e-mail of each job, once, and keeps the addresses that SES says are not to be written to.

use huntaze_lambda::clients::Aws;
use huntaze_lambda::queue::{self, Consumer, Message, Undone};
use huntaze_lambda::{config, logs};
use huntaze_notify::delivery::{Receive, Undelivered};
use huntaze_notify::email::{Mailer, Suppressions};
use huntaze_notify::feedback::Feedback;
use huntaze_notify::message::EmailJob;
use serde_json::{Map, Value};

struct App {
    mailer: Mailer,
    suppressions: Suppressions,
}

impl Consumer for App {
    async fn handle(&self, message: Message) -> Result<(), Undone> {
        let body = message.object()?;
        if Feedback::is_in(&body) {
            return self.suppress(&body, &message).await;
        }
        let job = EmailJob::read(&body).map_err(|faults| Undone::faulty(&faults))?;
        let receive = Receive::new(message.id, message.now, message.started);
        self.mailer.deliver(&job, &receive).await.map_err(|left| match left {
            Undelivered::Busy { after } => Undone::Later { after },
            Undelivered::Exhausted => Undone::Reject(left.to_string()),
            _ => Undone::Retry { after: left.wait(), cause: left.into() },
        })
    }
}

impl App {
    async fn suppress(&self, envelope: &Map<String, Value>, message: &Message) -> Result<(), Undone> {
        let feedback = Feedback::read(envelope).map_err(|unknown| Undone::Reject(unknown.to_string()))?;
        let applied = feedback.apply(&self.suppressions, message.now).await;
        applied.map_err(|fault| Undone::Retry { after: None, cause: fault.into() })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let aws = Aws::new(&env, &tls);
    let suppressions = Suppressions::from_env(&env, aws.dynamodb());
    let mailer = Mailer::from_env(&env, suppressions.clone(), aws.dynamodb(), aws.sesv2());
    let app = env.finish(Some(App { mailer, suppressions }))?;
    queue::serve(&app, aws.sqs()).await
}
