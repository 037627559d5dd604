//! Certificate signing requests (PKCS#10) that we make.

use super::{Error, Names, PrivateKey, Subject, params};

/// Makes a request for a key, as PEM (`CERTIFICATE REQUEST`).
pub fn create_csr(key: &PrivateKey, subject: &Subject, names: &Names) -> Result<String, Error> {
    Ok(params(subject, names, &[])?.serialize_request(key)?.pem()?)
}
