//! Status in the datastore, as Felix writes it with etcd: that the agent is alive, and how each endpoint is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use datastore::key::{
    EndpointStatus, LastStatusKey, LivenessStatus, Region, StatusKey, WorkloadEndpointStatusKey,
};
use datastore::{Client, Key};

use crate::view::View;

/// How often liveness is written.
const REPORTING_INTERVAL: Duration = Duration::from_secs(30);
/// How long it lasts without being written again.
const REPORTING_TTL_S: i64 = 90;
/// How often endpoints are looked at; each change is one write.
const ENDPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// Writes for ever. What fails is tried again at the next turn.
pub(crate) async fn run(client: Client, host: String, view: View, report_endpoints: bool) {
    let started = Instant::now();
    let mut first_update = true;
    let mut liveness_at = Instant::now();
    let mut written: Option<BTreeMap<WorkloadEndpointStatusKey, String>> = None;
    let mut ticks = tokio::time::interval(ENDPOINT_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if Instant::now() >= liveness_at {
            let status = LivenessStatus {
                time: now_text(),
                uptime: started.elapsed().as_secs_f64(),
                first_update,
            };
            match write_liveness(&client, &host, &status).await {
                Ok(()) => first_update = false,
                Err(error) => tracing::debug!(%error, "liveness not written"),
            }
            liveness_at = Instant::now() + REPORTING_INTERVAL;
            // What somebody else has removed or changed meanwhile is put right.
            written = None;
        }
        if report_endpoints && let Err(error) = write_endpoints(&client, &host, &view, &mut written).await {
            tracing::debug!(%error, "endpoint status not written");
        }
    }
}

async fn write_liveness(client: &Client, host: &str, status: &LivenessStatus) -> datastore::Result<()> {
    let region = Region::default();
    client
        .apply(
            StatusKey {
                host: host.to_owned(),
                region: region.clone(),
            },
            status,
            Some(REPORTING_TTL_S),
        )
        .await?;
    client
        .apply(
            LastStatusKey {
                host: host.to_owned(),
                region,
            },
            status,
            None,
        )
        .await?;
    Ok(())
}

/// Makes the keys of this host equal to the endpoints; `written` is what is there, `None` until it was read.
async fn write_endpoints(
    client: &Client,
    host: &str,
    view: &View,
    written: &mut Option<BTreeMap<WorkloadEndpointStatusKey, String>>,
) -> datastore::Result<()> {
    let Some(wanted) = wanted(host, view) else {
        return Ok(());
    };
    let written = match written {
        Some(written) => written,
        None => written.insert(stored(client, host).await?),
    };
    for (key, status) in &wanted {
        if written.get(key) != Some(status) {
            client
                .apply(
                    key.clone(),
                    &EndpointStatus {
                        status: status.clone(),
                    },
                    None,
                )
                .await?;
            written.insert(key.clone(), status.clone());
        }
    }
    let gone: Vec<_> = written
        .keys()
        .filter(|key| !wanted.contains_key(*key))
        .cloned()
        .collect();
    for key in gone {
        match client.delete(&key, None).await {
            Ok(_) | Err(datastore::Error::DoesNotExist { .. }) => {}
            Err(error) => return Err(error),
        }
        written.remove(&key);
    }
    Ok(())
}

/// The endpoints, once all are known; `None` before that, so that nothing is removed too early.
fn wanted(host: &str, view: &View) -> Option<BTreeMap<WorkloadEndpointStatusKey, String>> {
    let published = view.lock();
    if published.datastore_state != "in-sync" || !published.endpoints_complete {
        return None;
    }
    let endpoints = published.endpoints.iter().filter_map(|endpoint| {
        // <orchestrator>/<namespace>/<name>/<endpoint>
        let (orchestrator, rest) = endpoint.id.split_once('/')?;
        let (workload, name) = rest.rsplit_once('/')?;
        let key = WorkloadEndpointStatusKey {
            host: host.to_owned(),
            orchestrator: orchestrator.to_owned(),
            workload: workload.to_owned(),
            endpoint: name.to_owned(),
            region: Region::default(),
        };
        Some((key, endpoint.status.clone()))
    });
    Some(endpoints.collect())
}

async fn stored(
    client: &Client,
    host: &str,
) -> datastore::Result<BTreeMap<WorkloadEndpointStatusKey, String>> {
    let prefix = format!("/calico/felix/v2/{}/host/{host}/workload/", Region::default());
    let range = datastore::client::KeyRange::Prefix(prefix);
    let (_, items) = client.etcd().list(&range, None).await?;
    let parsed = items.into_iter().filter_map(|item| {
        let key = WorkloadEndpointStatusKey::parse(&item.key)?;
        let value: EndpointStatus = serde_json::from_slice(&item.value).ok()?;
        Some((key, value.status))
    });
    Ok(parsed.collect())
}

fn now_text() -> String {
    let now = jiff::Timestamp::now();
    now.round(jiff::Unit::Second).unwrap_or(now).to_string()
}
