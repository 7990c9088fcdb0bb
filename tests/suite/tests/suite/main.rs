//! The system's specification, as tests: the built functions through the Lambda runtime protocol, on real stores, with the
//! outside world and its faults over the wire. `design` in a name is an invariant of the design.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what helpers of tests unwrap fails the test")]

mod accounts;
mod ai_dead_letters;
mod alert_storm;
mod alerts;
mod both_down;
mod breaker;
mod budgets;
mod cache;
mod chaos;
mod circuits;
mod circuits_seen;
mod compliance;
mod corrections;
mod costs;
mod crash;
mod dead_letters;
mod drift;
mod edge;
mod events;
mod experiments;
mod failures;
mod fallback;
mod flags;
mod guard;
mod hand_over;
mod health;
mod idempotency;
mod kept;
mod legacy;
mod limit;
mod limiter;
mod message_stats;
mod message_sweep;
mod messages;
mod migrations;
mod money;
mod notify;
mod observe;
mod platform;
mod prepared;
mod queue;
mod report;
mod reviews;
mod rollout;
mod sender;
mod sending;
mod sessions;
mod simulation;
mod status;
mod support;
mod survival;
mod thresholds;
