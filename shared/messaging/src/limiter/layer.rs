//! The layers: what is limited, over which window, and how much of it the contract allows.

use std::time::Duration;

use huntaze_domain::intent::MessageType;

/// What a layer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// The messages of an account.
    Account,
    /// Those to one fan.
    Recipient,
    /// The different fans of an account.
    Recipients,
    /// The messages of an account that are of one type.
    Type(MessageType),
    /// The messages of all accounts of a user.
    User,
    /// All messages.
    Everyone,
}

impl Of {
    /// Whether it may be another for one account.
    pub(super) fn is_the_accounts(self) -> bool {
        !matches!(self, Self::User | Self::Everyone)
    }

    /// Whether a message that is denied by it keeps the account's other messages from being sent too.
    pub(crate) fn holds_up_the_account(self) -> bool {
        matches!(self, Self::Account | Self::User | Self::Everyone)
    }
}

/// The length of a layer's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// A second.
    Second,
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours.
    Day,
}

/// One limit.
#[derive(Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its name, in answers, overrides and statistics.
    pub name: &'static str,
    /// The variable that sets it.
    pub variable: &'static str,
    /// What it counts.
    pub of: Of,
    /// Over which window.
    pub span: Span,
    /// The contract's limit; `None`: there is none unless one is set.
    pub default: Option<u32>,
}

macro_rules! layers {
    ($($name:literal $variable:literal $of:expr, $span:ident, $default:expr;)*) => {
        /// Every layer. They are asked in this order, and all of them have to have room.
        pub static LAYERS: &[Layer] = &[$(Layer {
            name: $name, variable: concat!("RATE_LIMIT_", $variable), of: $of, span: Span::$span, default: $default,
        },)*];
    };
}

layers! {
    "account_minute" "ACCOUNT_PER_MINUTE" Of::Account, Minute, Some(10);
    "account_hour" "ACCOUNT_PER_HOUR" Of::Account, Hour, Some(100);
    "account_day" "ACCOUNT_PER_DAY" Of::Account, Day, Some(500);
    "recipient_minute" "RECIPIENT_PER_MINUTE" Of::Recipient, Minute, Some(2);
    "recipient_hour" "RECIPIENT_PER_HOUR" Of::Recipient, Hour, Some(10);
    "recipients_hour" "RECIPIENTS_PER_HOUR" Of::Recipients, Hour, Some(50);
    "welcome_hour" "WELCOME_PER_HOUR" Of::Type(MessageType::Welcome), Hour, Some(20);
    "follow_up_hour" "FOLLOW_UP_PER_HOUR" Of::Type(MessageType::FollowUp), Hour, Some(30);
    "promotional_day" "PROMOTIONAL_PER_DAY" Of::Type(MessageType::Promotional), Day, Some(50);
    "custom_minute" "CUSTOM_PER_MINUTE" Of::Type(MessageType::Custom), Minute, Some(5);
    "user_hour" "USER_PER_HOUR" Of::User, Hour, None;
    "global_second" "GLOBAL_PER_SECOND" Of::Everyone, Second, Some(5);
}

/// A layer as it is for one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Which.
    pub layer: &'static Layer,
    /// No more than so many in any window.
    pub limit: u32,
    /// The window.
    pub window: Duration,
}
