//! Certificates for a test, made anew each time: an authority and whom it signs.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, date_time_ymd,
};

/// The name in certificates of servers.
pub const HOST: &str = "gateway.example";

/// Somebody who signs certificates.
pub struct Authority {
    /// Its own, PEM.
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = named(name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Authority { pem, issuer }
    }

    /// Of a server that is called [`HOST`].
    pub fn server(&self, until_year: i32) -> Pair {
        self.signs(HOST, ExtendedKeyUsagePurpose::ServerAuth, until_year)
    }

    /// Of a device.
    pub fn client(&self, name: &str) -> Pair {
        self.signs(name, ExtendedKeyUsagePurpose::ClientAuth, 2090)
    }

    fn signs(&self, name: &str, purpose: ExtendedKeyUsagePurpose, until_year: i32) -> Pair {
        let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        params.distinguished_name = named(name);
        params.extended_key_usages = vec![purpose];
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(until_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        Pair {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut full = DistinguishedName::new();
    full.push(DnType::CommonName, name);
    full
}

impl Pair {
    /// Writes both into a folder; nobody else may read the key.
    pub fn write(&self, folder: &Path) -> (PathBuf, PathBuf) {
        let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
        std::fs::write(&chain, &self.certificate).unwrap();
        write_secret(&key, &self.key);
        (chain, key)
    }
}

/// Writes a file that only its owner may read.
pub fn write_secret(path: &Path, text: &str) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::File::options();
    let options = options.create(true).truncate(true).write(true).mode(0o600);
    options
        .open(path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
}
