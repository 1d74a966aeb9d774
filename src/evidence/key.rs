//! The key that signs one recording: it is born in the recorder's memory and ends with it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use crate::event::hex;

/// What comes before the 32 bytes of an Ed25519 key in a DER `SubjectPublicKeyInfo` (RFC 8410).
const BEFORE_A_KEY: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Signs. Neither printed nor written anywhere; only its public half is.
pub struct Key(Ed25519KeyPair);

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Key({})", self.public())
    }
}

impl Key {
    /// A new key; `None` where the system gives no random numbers.
    pub fn new() -> Option<Self> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).ok()?;
        Ed25519KeyPair::from_pkcs8(document.as_ref()).ok().map(Self)
    }

    /// The public half, in hex.
    pub fn public(&self) -> String {
        hex(self.0.public_key().as_ref())
    }

    /// A signature in base64.
    pub fn sign(&self, message: &[u8]) -> String {
        STANDARD.encode(self.0.sign(message))
    }
}

/// Whether the owner of this public key signed the message.
pub fn is_signed(public: &str, message: &[u8], signature: &str) -> bool {
    let (Some(key), Ok(signature)) = (bytes(public), STANDARD.decode(signature)) else { return false };
    UnparsedPublicKey::new(&ED25519, key).verify(message, &signature).is_ok()
}

/// The public key as other tools read it.
pub fn pem(public: &str) -> Option<String> {
    let key = [BEFORE_A_KEY.as_slice(), &bytes(public)?].concat();
    Some(format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(key)))
}

fn bytes(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let mut key = [0; 32];
    for (byte, at) in key.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&hex[at..at + 2], 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_of_one_key_and_one_message() {
        let (one, other) = (Key::new().expect("a key"), Key::new().expect("a key"));
        let signature = one.sign(b"x");
        assert!(is_signed(&one.public(), b"x", &signature));
        assert!(!is_signed(&one.public(), b"y", &signature));
        assert!(!is_signed(&other.public(), b"x", &signature));
        for (public, signature) in
            [("", signature.as_str()), ("zz", ""), (&one.public(), "%%"), (&"ä".repeat(32), "")]
        {
            assert!(!is_signed(public, b"x", signature), "{public} {signature}");
        }
        assert!(!format!("{one:?}").contains(&signature));
    }

    #[test]
    fn the_public_key_is_read_by_others() {
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(
            pem(public).expect("a key"),
            "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n"
        );
    }
}
