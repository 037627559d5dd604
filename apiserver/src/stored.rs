//! Values in etcd: JSON of ours, and protobuf that other servers have written.

use apimachinery::codec::protobuf;
use apimachinery::schema::Schema;
use apiserver_storage::codec::ValueCodec;

/// What protobuf values start with.
const PROTOBUF_MAGIC: &[u8] = b"k8s\0";

/// Reads both forms, writes JSON.
pub struct StoredValues;

impl ValueCodec for StoredValues {
    fn read(&self, _key: &str, value: Vec<u8>) -> Result<Vec<u8>, String> {
        if !value.starts_with(PROTOBUF_MAGIC) {
            return Ok(value);
        }
        let object = protobuf::decode(Schema::builtin(), &value).map_err(|error| error.to_string())?;
        serde_json::to_vec(&object).map_err(|error| error.to_string())
    }

    fn write(&self, _key: &str, json: Vec<u8>) -> Result<Vec<u8>, String> {
        Ok(json)
    }
}
