//! The form of values in etcd.

/// Turns stored values into JSON and back: where encryption at rest and values written by other servers are understood.
pub trait ValueCodec: Send + Sync {
    /// The JSON of a stored value.
    fn read(&self, key: &str, value: Vec<u8>) -> Result<Vec<u8>, String>;

    /// The value to store for JSON.
    fn write(&self, key: &str, json: Vec<u8>) -> Result<Vec<u8>, String>;
}

/// Values are the JSON itself.
pub struct PlainJson;

impl ValueCodec for PlainJson {
    fn read(&self, _key: &str, value: Vec<u8>) -> Result<Vec<u8>, String> {
        Ok(value)
    }

    fn write(&self, _key: &str, json: Vec<u8>) -> Result<Vec<u8>, String> {
        Ok(json)
    }
}
