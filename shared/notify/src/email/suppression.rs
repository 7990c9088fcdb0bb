//! Addresses that are not written to again: mail to them bounced for good, or their owner complained.
//!
//! An address is kept as a hash, keyed where `SUPPRESSION_KEY` is set: without it a hash can be guessed from a list of
//! addresses. An address that was suppressed before there was a key stays suppressed.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::future::try_join_all;
use hmac::{Hmac, KeyInit, Mac};
use huntaze_domain::env::Env;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::Address;
use crate::delivery::Deliveries;
use crate::fault::Fault;

/// The items `suppressed#<hash>` of the table of deliveries, which have no end.
#[derive(Clone)]
pub struct Suppressions {
    client: Client,
    table: String,
    key: Option<Vec<u8>>,
}

impl Suppressions {
    /// Those of the table of deliveries.
    #[must_use]
    pub fn from_env(env: &Env, dynamodb: Client) -> Self {
        let Deliveries { client, table } = Deliveries::from_env(env, dynamodb);
        Self { client, table, key: env.optional("SUPPRESSION_KEY").map(String::into_bytes) }
    }

    /// Whether an address is not written to.
    ///
    /// # Errors
    /// [`Fault`] of the store.
    pub async fn has(&self, address: &Address) -> Result<bool, Fault> {
        let found = try_join_all(self.ids(address).into_iter().map(async |id| {
            let get = self.client.get_item().table_name(&self.table).projection_expression("id").consistent_read(true);
            let found = get.key("id", AttributeValue::S(id)).send().await;
            found.map(|found| found.item.is_some()).map_err(|error| Fault::of_aws(&error, &[]))
        }));
        Ok(found.await?.contains(&true))
    }

    /// Has an address not written to again. `reason`: `bounce` or `complaint`.
    ///
    /// # Errors
    /// [`Fault`] of the store.
    pub async fn add(&self, address: &Address, reason: &str, now: Timestamp) -> Result<(), Fault> {
        let Some(id) = self.ids(address).into_iter().next() else { return Ok(()) };
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("id", AttributeValue::S(id))
            .item("reason", AttributeValue::S(reason.to_owned()))
            .item("updatedAt", AttributeValue::S(now.to_string()));
        put.send().await.map(|_| ()).map_err(|error| Fault::of_aws(&error, &[]))
    }

    /// The keys under which an address may stand: the one that is written now first.
    fn ids(&self, address: &Address) -> Vec<String> {
        // Servers that tell apart the case of a local part are next to none.
        let address = address.as_str().to_ascii_lowercase();
        let keyed = self.key.as_deref().and_then(|key| Hmac::<Sha256>::new_from_slice(key).ok()).map(|mut mac| {
            mac.update(address.as_bytes());
            hex(&mac.finalize().into_bytes())
        });
        let plain = hex(&Sha256::digest(address.as_bytes()));
        keyed.into_iter().chain([plain]).map(|hash| format!("suppressed#{hash}")).collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::config::BehaviorVersion;

    use super::*;

    fn suppressions(key: Option<&str>) -> Suppressions {
        let config = aws_sdk_dynamodb::Config::builder().behavior_version(BehaviorVersion::latest()).build();
        let key = key.map(|key| key.as_bytes().to_vec());
        Suppressions { client: Client::from_conf(config), table: "t".to_owned(), key }
    }

    /// What the README has a person compute who lifts a suppression.
    #[test]
    fn a_suppression_is_found_by_the_hashes_that_openssl_makes() {
        let ids = suppressions(Some("a key")).ids(&Address::parse("Ana@Mail.example").unwrap());
        assert_eq!(
            ids,
            [
                "suppressed#e02e5923f2c599cd77f528356f8bed1fdad0fdb3a81d9d70a37b68bf38e443eb",
                "suppressed#7f0d4910592408724f1860bc3faf02f793ec9704e13802e246203501f10d3b99",
            ]
        );
    }

    #[test]
    fn an_address_is_kept_as_a_keyed_hash_and_found_under_its_plain_one_too() {
        let ids = |key, address: &str| suppressions(key).ids(&Address::parse(address).unwrap());
        assert_eq!(ids(None, "ana@mail.example").len(), 1);
        let keyed = ids(Some("k"), "Ana@Mail.example");
        assert_eq!((keyed.len(), &keyed[1..]), (2, &ids(None, "ana@mail.example")[..]));
        assert_ne!(ids(Some("k"), "ana@mail.example")[0], ids(Some("l"), "ana@mail.example")[0]);
        assert!(keyed.iter().all(|id| !id.contains("ana") && id.len() == "suppressed#".len() + 64), "{keyed:?}");
    }
}
