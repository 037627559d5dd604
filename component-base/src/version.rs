//! The version that every binary reports: that of the API level, with ours behind a plus sign.

/// Major version of the Kubernetes API that is served.
pub const MAJOR: &str = "1";
/// Minor version of the Kubernetes API that is served.
pub const MINOR: &str = "36";
/// What `--version`, `/version`, `nodeInfo.kubeletVersion` and user agents say.
pub const GIT_VERSION: &str = "v1.36.2+corten.0.1.0";
/// The upstream release whose behaviour is matched, for images and skew checks.
pub const KUBERNETES_VERSION: &str = "v1.36.2";

/// The text of `--version`: `Kubernetes v1.36.2+corten.0.1.0`.
pub fn line() -> String {
    format!("Kubernetes {GIT_VERSION}")
}

/// The User-Agent of a component, in client-go's form: `kubelet/v1.36.2+corten.0.1.0 (linux/amd64)`.
pub fn user_agent(component: &str) -> String {
    format!("{component}/{GIT_VERSION} ({})", platform())
}

/// Operating system and architecture in Go's words: `linux/amd64`.
pub fn platform() -> String {
    format!("linux/{}", go_arch())
}

/// This machine's architecture in Go's words (`amd64`, `arm64`), as in `nodeInfo.architecture`.
pub fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}
