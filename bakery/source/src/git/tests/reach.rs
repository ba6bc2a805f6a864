//! Hosts that git gets to, and those that it does not get to.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_vm_is_started_and_nothing_resolved_for_a_host_that_is_not_allowed() {
    let rig = Rig::baked().await;
    let source = source("https://other.example.com/a", &"1".repeat(40), false);
    let (sentence, fault, reason) = told(&rig.bench.fetch(&source).await.unwrap_err());
    assert!(
        sentence.contains("tenant acme may not fetch from other.example.com:443"),
        "{sentence}"
    );
    assert_eq!((fault, reason), (Fault::Job, Reason::InvalidJob));
    assert_eq!(rig.bench.resolved(), 0);
    assert!(!rig.bench.dir.path().join("slots").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allowed_name_that_leads_into_the_hosts_own_network_is_refused() {
    let rig = Rig::within(Repository::new(), Manner::Current, "[]").await;
    rig.bench.bake_fetch_template().await;
    let source = rig.source(&rig.widget.head(), false);
    let (sentence, fault, reason) = told(&rig.bench.fetch(&source).await.unwrap_err());
    let refusal = format!(
        "{NAME}:{}: leads to no address that is allowed",
        rig.server.port
    );
    assert!(sentence.ends_with(&refusal), "{sentence}");
    assert_eq!((fault, reason), (Fault::Job, Reason::InvalidJob));
    assert_eq!(rig.server.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_not_there_is_not_the_jobs_matter() {
    let rig = Rig::baked().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = format!("{NAME}:{}", port.local_addr().unwrap().port());
    drop(port);
    let tenant = format!(
        r#"{{"name": "acme", "hosts": [{{"hosts": ["{host}"], "networks": ["127.0.0.0/8"]}}]}}"#
    );
    let shared = &rig.bench.sources.shared;
    let put = shared.tenants.put("acme", tenant.into()).await;
    put.unwrap();
    let source = source(&format!("https://{host}/a"), &rig.widget.head(), false);
    let (_, fault, reason) = told(&rig.bench.fetch(&source).await.unwrap_err());
    assert_eq!((fault, reason), (Fault::Host, Reason::SourceUnavailable));
}
