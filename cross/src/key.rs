//! `cargo cross key`: keys that sign a feed, in the format of usign and signify.
//!
//! A file has a comment and one line of base64: `Ed`, eight bytes that name the key, and the
//! Ed25519 public key or signature. The secret key has besides how it is encrypted (here: not) and
//! a check sum. usign and OpenBSD's signify read each other's files; keys of theirs can sign here.
//!
//! Draws a key once and writes it into a new file that only its owner may read; never replaces one.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};
use ed25519_compact::{KeyPair, Seed};
use sha2::{Digest, Sha512};

use crate::error::CrossError;

/// Ed25519.
const ALGORITHM: [u8; 2] = *b"Ed";
/// bcrypt's key derivation; with no rounds there is no encryption.
const DERIVATION: [u8; 2] = *b"BK";

const COMMENT: &str = "untrusted comment: ";

/// The name of a key. Drawn at random: it says nothing about the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 8]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A key that signs.
pub(crate) struct SecretKey {
    fingerprint: Fingerprint,
    salt: [u8; 16],
    pair: KeyPair,
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.fingerprint)
    }
}

impl SecretKey {
    fn draw() -> Result<Self, CrossError> {
        let (mut fingerprint, mut salt, mut seed) = ([0; 8], [0; 16], [0; 32]);
        for bytes in [&mut fingerprint[..], &mut salt, &mut seed] {
            getrandom::fill(bytes).map_err(|error| CrossError::Io(io::Error::other(error)))?;
        }
        let pair = KeyPair::from_seed(Seed::new(seed));
        Ok(Self { fingerprint: Fingerprint(fingerprint), salt, pair })
    }

    /// The key in the file at `path`.
    ///
    /// # Errors
    /// With what is wrong with the file.
    pub(crate) fn read(path: &Path) -> Result<Self, CrossError> {
        let named = |what: &str| CrossError::Failed(format!("{}: {what}", path.display()));
        let text = fs::read_to_string(path).map_err(|error| named(&error.to_string()))?;
        Self::parse(&text).map_err(named)
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        const NO_KEY: &str = "is no secret key of usign, signify or `cargo cross key`";
        let line = text.lines().nth(1).ok_or(NO_KEY)?;
        let bytes = Base64::decode_vec(line.trim_end()).map_err(|_| NO_KEY)?;
        let bytes: [u8; 104] = bytes.try_into().map_err(|_| NO_KEY)?;
        let mut rest = &bytes[..];
        if take::<2>(&mut rest) != Some(ALGORITHM) || take::<2>(&mut rest) != Some(DERIVATION) {
            return Err(NO_KEY);
        }
        if take::<4>(&mut rest) != Some([0; 4]) {
            return Err("is locked by a passphrase; signify -G -n makes a key without");
        }
        let salt = take(&mut rest).ok_or(NO_KEY)?;
        let check: [u8; 8] = take(&mut rest).ok_or(NO_KEY)?;
        let fingerprint = Fingerprint(take(&mut rest).ok_or(NO_KEY)?);
        let secret: [u8; 64] = take(&mut rest).ok_or(NO_KEY)?;
        if !Sha512::digest(secret).starts_with(&check) {
            return Err("is damaged: its check sum is wrong");
        }
        let pair = KeyPair::from_slice(&secret).map_err(|_| "is damaged: its halves differ")?;
        Ok(Self { fingerprint, salt, pair })
    }

    /// The name of the key.
    pub(crate) const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    fn secret_file(&self) -> String {
        let secret = self.pair.sk.as_slice();
        let check = Sha512::digest(secret);
        let check: Vec<u8> = check.iter().take(8).copied().collect();
        let parts: [&[u8]; 7] =
            [&ALGORITHM, &DERIVATION, &[0; 4], &self.salt, &check, &self.fingerprint.0, secret];
        file(&format!("private key {}", self.fingerprint), &parts.concat())
    }

    fn public_file(&self) -> String {
        let parts = [&ALGORITHM[..], &self.fingerprint.0, self.pair.pk.as_slice()];
        file(&format!("public key {}", self.fingerprint), &parts.concat())
    }

    /// The signature file of `message`.
    pub(crate) fn sign(&self, message: &[u8]) -> String {
        let signature = self.pair.sk.sign(message, None);
        let parts = [&ALGORITHM[..], &self.fingerprint.0, signature.as_slice()];
        file(&format!("signed by key {}", self.fingerprint), &parts.concat())
    }
}

/// The next `N` bytes.
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*first)
}

fn file(comment: &str, bytes: &[u8]) -> String {
    format!("{COMMENT}{comment}\n{}\n", Base64::encode_string(bytes))
}

/// The files of a pair.
#[derive(Debug)]
struct Files {
    secret: PathBuf,
    public: PathBuf,
}

/// Makes a pair in `directory` and says what to do with it.
pub(crate) fn run(directory: &Path, out: &mut impl Write) -> Result<(), CrossError> {
    let key = SecretKey::draw()?;
    let files = write(&key, directory)?;
    let (secret, public) = (files.secret.display(), files.public.display());
    Ok(write!(
        out,
        "secret key {secret}: keep it, and keep it secret\n\
         public key {public}: copy it to /etc/opkg/keys/{} of each router\n\
         sign a feed with it: cargo cross package TARGET --key {secret}\n",
        key.fingerprint()
    )?)
}

fn write(key: &SecretKey, directory: &Path) -> Result<Files, CrossError> {
    // signify wants that ending.
    let secret = directory.join("feed.sec");
    let public = directory.join(key.fingerprint().to_string());
    fs::create_dir_all(directory)?;
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&secret);
    let mut opened = opened.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => CrossError::Failed(format!(
            "{} is there already: name another directory, or take that key",
            secret.display()
        )),
        _ => error.into(),
    })?;
    opened.write_all(key.secret_file().as_bytes())?;
    opened.sync_all()?;
    fs::write(&public, key.public_file())?;
    Ok(Files { secret, public })
}

#[cfg(test)]
mod tests {
    use super::{SecretKey, write};
    use base64ct::{Base64, Encoding};
    use std::os::unix::fs::PermissionsExt;

    /// RFC 8032, test 2.
    const SEED: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    const PUBLIC: &str = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    const SIGNATURE: &str = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    }

    fn decoded(file: &str) -> Vec<u8> {
        Base64::decode_vec(file.lines().nth(1).unwrap()).unwrap()
    }

    #[test]
    fn keys_and_signatures_are_those_of_rfc_8032() {
        let mut key = SecretKey::draw().unwrap();
        let seed: [u8; 32] = bytes(SEED).try_into().unwrap();
        key.pair = super::KeyPair::from_seed(super::Seed::new(seed));
        assert_eq!(decoded(&key.public_file())[10..], bytes(PUBLIC));
        assert_eq!(decoded(&key.sign(&[0x72]))[10..], bytes(SIGNATURE));
        assert_eq!(decoded(&key.sign(&[0x72]))[2..10], key.fingerprint.0);
    }

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let key = SecretKey::draw().unwrap();
        let again = SecretKey::parse(&key.secret_file()).unwrap();
        assert_eq!(again.secret_file(), key.secret_file());
        assert_eq!(again.sign(b"x"), key.sign(b"x"));
        assert!(!format!("{key:?}").contains(key.secret_file().lines().nth(1).unwrap()));
    }

    #[test]
    fn a_file_that_is_no_good_key_is_refused_with_the_reason() {
        let key = SecretKey::draw().unwrap();
        let file = key.secret_file();
        let changed = |at: usize| {
            let mut bytes = decoded(&file);
            bytes[at] ^= 1;
            SecretKey::parse(&super::file("x", &bytes)).unwrap_err()
        };
        assert!(changed(7).contains("passphrase"));
        for at in [24, 40, 72, 103] {
            assert!(changed(at).contains("damaged"), "{at}");
        }
        for other in ["", "one line\n", &key.public_file(), "a\n???\n"] {
            assert!(SecretKey::parse(other).unwrap_err().contains("no secret key"));
        }
    }

    #[test]
    fn a_pair_is_never_replaced_and_its_secret_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let key = SecretKey::draw().unwrap();
        let files = write(&key, directory.path()).unwrap();
        let mode = std::fs::metadata(&files.secret).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(files.public.file_name().unwrap().to_str().unwrap().len(), 16);
        let error = write(&SecretKey::draw().unwrap(), directory.path()).unwrap_err();
        assert!(error.to_string().contains("already"), "{error}");
        assert_eq!(SecretKey::read(&files.secret).unwrap().sign(b"x"), key.sign(b"x"));
    }
}
