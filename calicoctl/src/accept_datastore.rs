//! `node accept-datastore`: the way on for an agent that keeps its last good view because the datastore's history is
//! not the one that it knows.

use api_proto::v1::AcceptDatastoreRequest;

use crate::agent;
use crate::arguments::AcceptDatastoreOptions;
use crate::failure::{Failure, print};

pub(crate) async fn run(options: &AcceptDatastoreOptions) -> Result<(), Failure> {
    let mut client = agent::connect(&options.agent.agent_socket)
        .await
        .map_err(Failure::new)?;
    let request = AcceptDatastoreRequest {
        confirmed: options.yes,
    };
    let answer = client
        .accept_datastore(request)
        .await
        .map_err(|status| Failure::new(status.message()))?;
    let reason = answer.into_inner().reason;
    if options.yes {
        return print(&format!(
            "Accepted. The agent now takes the datastore for the truth; until now: {reason}\n"
        ));
    }
    Err(Failure::new(format!(
        "Nothing is done without --yes: {reason}. With --yes this host follows the datastore as it is now: what is not \
         in it is removed, also policies, endpoints' permissions, routes and sessions. Look at it first \
         (calicoctl get nodes, get workloadendpoints)"
    )))
}
