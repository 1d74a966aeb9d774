//! `evidence.sig`: the recorder's last word on its recording, its policy and the statement, under its key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::key::{self, Key};

const SCHEMA: &str = "edamame-guard/signature/v1";
/// What a statement is, in an envelope (DSSE).
const PAYLOAD: &str = "application/vnd.in-toto+json";

/// Who signed what. Fields are in the order in which people check them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    pub schema: String,
    pub algorithm: String,
    /// Hex, as it was printed before the first step, and PEM for other tools.
    pub public_key: String,
    pub public_key_pem: String,
    /// Digests of the first record and of the last line, the footer.
    pub genesis: String,
    pub head: String,
    pub records: u64,
    /// Digest of `policy.lock.yml`.
    pub policy: String,
    /// Of the four above.
    pub signature: String,
    /// `statement.json` in an envelope for cosign and others.
    pub envelope: Envelope,
}

/// A signed statement (DSSE 1.0).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    pub payload_type: String,
    /// Base64.
    pub payload: String,
    pub signatures: Vec<Signature>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    pub keyid: String,
    pub sig: String,
}

/// What a finished recording is known by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    pub genesis: String,
    pub head: String,
    pub records: u64,
}

impl Seal {
    pub fn new(key: &Key, ends: &Ends, policy: &str, statement: &[u8]) -> Self {
        let public_key = key.public();
        Self {
            schema: SCHEMA.to_owned(),
            algorithm: "ed25519".to_owned(),
            public_key_pem: key::pem(&public_key).unwrap_or_default(),
            genesis: ends.genesis.clone(),
            head: ends.head.clone(),
            records: ends.records,
            policy: policy.to_owned(),
            signature: key.sign(&message(ends, policy)),
            envelope: Envelope {
                payload_type: PAYLOAD.to_owned(),
                payload: STANDARD.encode(statement),
                signatures: vec![Signature {
                    keyid: public_key.clone(),
                    sig: key.sign(&before_authentication(statement)),
                }],
            },
            public_key,
        }
    }

    /// Reads an `evidence.sig`.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let seal: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if seal.schema == SCHEMA { Ok(seal) } else { Err(format!("its schema is not `{SCHEMA}`")) }
    }

    /// Whether its key signed what it says of the recording and the policy.
    pub fn is_signed(&self) -> bool {
        let ends = Ends { genesis: self.genesis.clone(), head: self.head.clone(), records: self.records };
        key::is_signed(&self.public_key, &message(&ends, &self.policy), &self.signature)
    }

    /// The statement, if its key signed it.
    pub fn statement(&self) -> Option<Vec<u8>> {
        let statement = STANDARD.decode(&self.envelope.payload).ok()?;
        let message = before_authentication(&statement);
        let is_signed = |signature: &Signature| key::is_signed(&self.public_key, &message, &signature.sig);
        (self.envelope.payload_type == PAYLOAD && self.envelope.signatures.iter().any(is_signed))
            .then_some(statement)
    }
}

fn message(ends: &Ends, policy: &str) -> Vec<u8> {
    format!("{SCHEMA}\n{}\n{}\n{}\n{policy}\n", ends.genesis, ends.head, ends.records).into_bytes()
}

/// What is signed of an envelope: type and payload, each with its length (DSSE's PAE).
fn before_authentication(payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {PAYLOAD} {} ", PAYLOAD.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_that_counts_is_signed() {
        let key = Key::new().expect("a key");
        let ends = Ends { genesis: "a".repeat(64), head: "b".repeat(64), records: 7 };
        let seal = Seal::new(&key, &ends, &"c".repeat(64), b"{\"x\":1}");
        assert!(seal.is_signed());
        assert_eq!(seal.statement().as_deref(), Some(b"{\"x\":1}".as_slice()));
        let text = serde_json::to_vec(&seal).expect("JSON");
        assert_eq!(Seal::parse(&text).expect("reads"), seal);
        let other = Key::new().expect("a key").public();
        let edits: [fn(&mut Seal, &str); 5] = [
            |seal, _| seal.genesis = "d".repeat(64),
            |seal, _| seal.head = "d".repeat(64),
            |seal, _| seal.records = 6,
            |seal, _| seal.policy = "d".repeat(64),
            |seal, other| other.clone_into(&mut seal.public_key),
        ];
        for edit in edits {
            let mut changed = seal.clone();
            edit(&mut changed, &other);
            assert!(!changed.is_signed(), "{changed:?}");
        }
        let mut changed = seal;
        changed.envelope.payload = STANDARD.encode(b"{\"x\":2}");
        assert_eq!(changed.statement(), None);
    }

    #[test]
    fn an_envelope_is_signed_as_its_standard_says() {
        // The example of the DSSE protocol, with another type.
        assert_eq!(before_authentication(b"hello"), b"DSSEv1 28 application/vnd.in-toto+json 5 hello");
    }
}
