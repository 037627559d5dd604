//! Volumes whose files come from one object: `configMap`, `secret`, `downwardAPI`. Their file lists are shared with `projected`.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, DownwardAPIVolumeFile, DownwardAPIVolumeSource, KeyToPath, Pod, Secret,
    SecretVolumeSource,
};

use super::atomic::{File, Files};
use super::{Context, Error, Volume, access, atomic};
use crate::downward;

const DEFAULT_MODE: i32 = 0o644;

fn mode(own: Option<i32>, default: Option<i32>) -> u32 {
    u32::try_from(own.or(default).unwrap_or(DEFAULT_MODE)).unwrap_or(DEFAULT_MODE as u32)
}

/// The files of an object's entries: all, or the listed keys under their paths.
pub fn select(
    kind: &'static str,
    entries: Vec<(String, Vec<u8>)>,
    items: Option<&[KeyToPath]>,
    default: Option<i32>,
    optional: bool,
) -> Result<Files, Error> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        let file = |content| File { content, mode: mode(None, default), owner: None };
        return Ok(entries.into_iter().map(|(key, content)| (key, file(content))).collect());
    };
    let mut files = Files::new();
    for item in items {
        match entries.iter().find(|(key, _)| *key == item.key) {
            Some((_, content)) => {
                let file = File { content: content.clone(), mode: mode(item.mode, default), owner: None };
                files.insert(item.path.clone(), file);
            }
            None if optional => {}
            None => return Err(Error::NoKey { kind, key: item.key.clone() }),
        }
    }
    Ok(files)
}

pub fn of_config_map(map: Option<&ConfigMap>) -> Vec<(String, Vec<u8>)> {
    let Some(map) = map else { return Vec::new() };
    let text = map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    text.chain(map.binary_data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()))).collect()
}

pub fn of_secret(secret: Option<&Secret>) -> Vec<(String, Vec<u8>)> {
    secret
        .iter()
        .flat_map(|secret| secret.data.iter().flatten())
        .map(|(key, value)| (key.clone(), value.0.clone()))
        .collect()
}

/// The files of a downward API volume.
pub fn of_fields(
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    default: Option<i32>,
    facts: &downward::Facts<'_>,
) -> Result<Files, Error> {
    let mut files = Files::new();
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            downward::field(pod, &field.field_path, facts)?
        } else if let Some(field) = &item.resource_field_ref {
            let name = field.container_name.as_deref().unwrap_or_default();
            let container =
                crate::pod::container(pod, name).ok_or_else(|| downward::Error::Resource(name.to_owned()))?;
            downward::resource(&container.1, &field.resource, field.divisor.as_ref(), facts)?
        } else {
            continue;
        };
        let file = File { content: text.into_bytes(), mode: mode(item.mode, default), owner: None };
        files.insert(item.path.clone(), file);
    }
    Ok(files)
}

fn show(directory: &Path, files: &Files, context: Context<'_>) -> Result<PathBuf, Error> {
    atomic::write(directory, files, access::fs_group(context.pod))?;
    Ok(directory.to_owned())
}

pub struct ConfigMapVolume(pub ConfigMapVolumeSource);

#[async_trait]
impl Volume for ConfigMapVolume {
    async fn set_up(&self, directory: &Path, context: Context<'_>) -> Result<PathBuf, Error> {
        let optional = self.0.optional.unwrap_or(false);
        let map = context.objects.config_map(context.pod, &self.0.name, optional).await?;
        let entries = of_config_map(map.as_deref());
        show(directory, &select("config", entries, self.0.items.as_deref(), self.0.default_mode, optional)?, context)
    }

    fn is_content(&self) -> bool {
        true
    }

    fn plugin(&self) -> &'static str {
        "configmap"
    }
}

pub struct SecretVolume(pub SecretVolumeSource);

#[async_trait]
impl Volume for SecretVolume {
    async fn set_up(&self, directory: &Path, context: Context<'_>) -> Result<PathBuf, Error> {
        let optional = self.0.optional.unwrap_or(false);
        let name = self.0.secret_name.as_deref().unwrap_or_default();
        let secret = context.objects.secret(context.pod, name, optional).await?;
        super::mounts::tmpfs(directory, None)?;
        let entries = of_secret(secret.as_deref());
        show(directory, &select("secret", entries, self.0.items.as_deref(), self.0.default_mode, optional)?, context)
    }

    fn is_content(&self) -> bool {
        true
    }

    fn plugin(&self) -> &'static str {
        "secret"
    }
}

pub struct DownwardVolume(pub DownwardAPIVolumeSource);

#[async_trait]
impl Volume for DownwardVolume {
    async fn set_up(&self, directory: &Path, context: Context<'_>) -> Result<PathBuf, Error> {
        let items = self.0.items.as_deref().unwrap_or_default();
        show(directory, &of_fields(context.pod, items, self.0.default_mode, &context.facts)?, context)
    }

    fn is_content(&self) -> bool {
        true
    }

    fn plugin(&self) -> &'static str {
        "downward-api"
    }
}
