//! `[sensor.tls]`: which files a sensor's TLS is made of, judged before anything is started.

use toml::Spanned;

use super::ConfigError;
use super::certificates::Certificates;
use super::check::Source;
use super::document::TlsSection;
use super::settings::{ClientCertificates, Tls};

/// Checks the section, its files and that they belong together.
///
/// # Errors
/// The first thing that is wrong.
pub fn tls(source: &Source, section: &Spanned<TlsSection>) -> Result<Tls, ConfigError> {
    let s = section.get_ref();
    let authorities = s.client_authorities.as_ref();
    if let Some(client) = s.client.as_ref().filter(|_| authorities.is_none()) {
        let reason = "client says what clients have to show: client_authorities is missing, whose \
                      certificates they are";
        return Err(source.error(&client.span(), reason));
    }
    let client = s
        .client
        .as_ref()
        .map_or(ClientCertificates::Required, |client| *client.get_ref());
    if let Some(identity) = &s.identity
        && (authorities.is_none() || client != ClientCertificates::Required)
    {
        let reason = "identity is taken from the certificates of clients: set client_authorities and leave client at \
                      \"required\"";
        return Err(source.error(&identity.span(), reason));
    }
    let tls = Tls {
        certificate: source.existing_file(&s.certificate)?,
        key: source.existing_file(&s.key)?,
        client_authorities: authorities
            .map(|path| source.existing_file(path))
            .transpose()?,
        client,
        identity: s.identity.as_ref().map(|identity| *identity.get_ref()),
    };
    let judged = Certificates::read(&tls).and_then(|certificates| certificates.server(&tls));
    judged.map_err(|cause| source.error(&section.span(), cause.to_string()))?;
    Ok(tls)
}
