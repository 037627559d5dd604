use super::*;
use crate::conntrack::{self, Cut};
use crate::plan::Policy;
use crate::testing;
use async_trait::async_trait;

/// Remembers scripts with the time at which they came, and refuses as many as it is told.
struct Recorder {
    start: Instant,
    scripts: Mutex<Vec<(Duration, String)>>,
    refuse: Mutex<u32>,
}

#[async_trait]
impl Nft for Recorder {
    async fn apply(&self, script: &str) -> Result<(), nft::Error> {
        self.scripts.lock().push((self.start.elapsed(), script.to_owned()));
        let mut refuse = self.refuse.lock();
        if *refuse == 0 {
            return Ok(());
        }
        *refuse -= 1;
        Err(nft::Error::Refused { message: "no".into() })
    }

    async fn list(&self, what: &str) -> Result<String, nft::Error> {
        self.apply(&format!("list {what}")).await.map(|()| String::new())
    }
}

struct NoConntrack;

#[async_trait]
impl Conntrack for NoConntrack {
    async fn cut(&self, _: &Cut) -> Result<(), conntrack::Error> {
        Ok(())
    }
}

struct Rig {
    nft: Arc<Recorder>,
    proxier: Arc<Mutex<Proxier>>,
    wake: Arc<Notify>,
    shutdown: Shutdown,
}

impl Rig {
    fn start(refuse: u32) -> Self {
        let nft = Arc::new(Recorder { start: Instant::now(), scripts: Mutex::default(), refuse: Mutex::new(refuse) });
        let proxier = Proxier::new(vec![Family::V4], Policy::default(), testing::node(), Vec::new());
        let rig = Self {
            nft,
            proxier: Arc::new(Mutex::new(proxier)),
            wake: Arc::new(Notify::new()),
            shutdown: Shutdown::new(),
        };
        let syncer = Syncer {
            proxier: rig.proxier.clone(),
            wake: rig.wake.clone(),
            nft: rig.nft.clone(),
            conntrack: Arc::new(NoConntrack),
            families: vec![Family::V4],
            min_period: Duration::from_millis(100),
            check_period: Duration::from_secs(30),
            status: Arc::new(Status::default()),
            metrics: Metrics::default(),
            done: watch::Sender::new(0),
        };
        tokio::spawn(syncer.run(rig.shutdown.clone()));
        rig
    }

    fn service(&self, name: &str, ip: &str) {
        let service = testing::service(name, ip);
        self.proxier.lock().set_service(&service.name.clone(), Some(service));
        self.wake.notify_one();
    }

    async fn after(&self, wait: u64) -> Vec<(u128, String)> {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        std::mem::take(&mut *self.nft.scripts.lock()).into_iter().map(|(at, s)| (at.as_millis(), s)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_change_goes_out_at_once_and_those_after_it_gather() {
    let rig = Rig::start(0);
    assert_eq!(rig.after(1000).await.len(), 1);
    rig.service("a", "10.96.0.1");
    let first = rig.after(1).await;
    assert_eq!(first.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1000]);
    for (name, ip) in [("b", "10.96.0.2"), ("c", "10.96.0.3")] {
        rig.service(name, ip);
        assert!(rig.after(10).await.is_empty());
    }
    let second = rig.after(500).await;
    assert_eq!(second.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1100]);
    assert!(second[0].1.contains("10.96.0.2") && second[0].1.contains("10.96.0.3"));
    rig.shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_refused_transaction_is_followed_by_a_rebuild() {
    let rig = Rig::start(2);
    rig.service("a", "10.96.0.1");
    let scripts = rig.after(5000).await;
    // Refused, looked for (refused too), and built again.
    let rebuilt: Vec<bool> = scripts.iter().map(|(_, s)| s.contains("delete table ip kube-proxy")).collect();
    assert_eq!(rebuilt, [true, false, true]);
    assert!(scripts[2].1.contains("10.96.0.1"));
    rig.shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_table_that_somebody_removed_is_built_again() {
    let rig = Rig::start(0);
    assert_eq!(rig.after(1000).await.len(), 1);
    *rig.nft.refuse.lock() = 1;
    let scripts = rig.after(31_000).await;
    assert_eq!(scripts.len(), 2);
    assert!(scripts[0].1.starts_with("list chain ip kube-proxy"));
    assert!(scripts[1].1.contains("delete table ip kube-proxy"));
    rig.shutdown.cancel();
}
