//! Named health checks and how they are shown: `ok`, or with `?verbose` and on failure one line per check, as upstream does.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::{Response, StatusCode};

use super::{Body, text};

type CheckFn = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// One named check.
#[derive(Clone)]
pub struct Check {
    name: &'static str,
    run: CheckFn,
}

impl Check {
    /// A check that is asked at each request. It must be quick.
    pub fn new<F, R>(name: &'static str, run: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self { name, run: Arc::new(move || Box::pin(run())) }
    }

    /// A check that never waits.
    pub fn quick(name: &'static str, run: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self::new(name, move || std::future::ready(run()))
    }
}

/// The checks of one endpoint.
#[derive(Clone, Default)]
pub struct Checks(Vec<Check>);

impl Checks {
    /// Adds a check.
    pub fn add(&mut self, check: Check) {
        self.0.push(check);
    }

    /// The answer for `root` (`/healthz`), of all checks, or of the one that `name` names.
    pub async fn answer(&self, root: &str, name: &str, query: &str) -> Response<Body> {
        if !name.is_empty() && name != "ping" {
            let Some(check) = self.0.iter().find(|check| check.name == name) else {
                return text(StatusCode::NOT_FOUND, "404 page not found\n");
            };
            return match (check.run)().await {
                Ok(()) => text(StatusCode::OK, "ok"),
                Err(reason) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {reason}\n")),
            };
        }
        self.answer_all(root, query).await
    }

    async fn answer_all(&self, root: &str, query: &str) -> Response<Body> {
        let parameters = || query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let excluded: HashSet<&str> = parameters().filter(|(key, _)| *key == "exclude").map(|(_, name)| name).collect();
        let verbose = parameters().any(|(key, _)| key == "verbose");
        let mut lines = String::from("[+]ping ok\n");
        let mut failed = false;
        for check in &self.0 {
            let _infallible = if excluded.contains(check.name) {
                writeln!(lines, "[+]{} excluded: ok", check.name)
            } else {
                match (check.run)().await {
                    Ok(()) => writeln!(lines, "[+]{} ok", check.name),
                    Err(reason) => {
                        failed = true;
                        tracing::info!(check = check.name, reason, "health check failed");
                        writeln!(lines, "[-]{} failed: reason withheld", check.name)
                    }
                }
            };
        }
        let endpoint = root.trim_start_matches('/');
        match (failed, verbose) {
            (true, _) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{endpoint} check failed\n")),
            (false, true) => text(StatusCode::OK, format!("{lines}{endpoint} check passed\n")),
            (false, false) => text(StatusCode::OK, "ok"),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn body(response: Response<Body>) -> (u16, String) {
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_failing_check_fails_the_endpoint_unless_excluded() {
        let mut checks = Checks::default();
        checks.add(Check::quick("good", || Ok(())));
        assert_eq!(body(checks.answer("/livez", "", "").await).await, (200, "ok".to_owned()));
        checks.add(Check::quick("bad", || Err("broken".to_owned())));
        let (status, text) = body(checks.answer("/livez", "", "").await).await;
        assert_eq!(status, 500);
        assert!(text.contains("[-]bad failed: reason withheld\nlivez check failed\n"), "{text}");
        assert_eq!(body(checks.answer("/livez", "", "exclude=bad").await).await.0, 200);
        assert_eq!(body(checks.answer("/livez", "bad", "").await).await.0, 500);
        assert_eq!(body(checks.answer("/livez", "good", "").await).await.0, 200);
        assert_eq!(body(checks.answer("/livez", "none", "").await).await.0, 404);
    }
}
