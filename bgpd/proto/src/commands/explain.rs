//! `explain`.

use tonic::transport::Channel;

use super::output::{Format, document, or_none, print, table};
use super::routes::{from, mark};
use super::{CommandError, ExplainOptions, request};
use crate::v1::bgp_client::BgpClient;
use crate::v1::{ExplainRequest, Explanation, Told};

pub(super) async fn run(
    client: &mut BgpClient<Channel>,
    options: &ExplainOptions,
) -> Result<(), CommandError> {
    let asked = ExplainRequest {
        prefix: options.prefix.clone(),
    };
    let explanation = client.explain(request(asked)).await?.into_inner();
    if explanation.prefix.is_empty() {
        return Err(CommandError::Nothing(format!(
            "{}: no peer has announced it, and this host does not originate it",
            options.prefix
        )));
    }
    print(&render(&explanation, options.output.output)?)
}

fn render(explanation: &Explanation, format: Format) -> Result<String, CommandError> {
    if let Some(text) = document(explanation, format)? {
        return Ok(text);
    }
    let mut text = format!("{}\n\nPaths, the best one first:\n", explanation.prefix);
    let rows: Vec<Vec<String>> = explanation
        .paths
        .iter()
        .map(|route| {
            vec![
                mark(route).to_owned(),
                from(route),
                route.next_hop.clone(),
                or_none(&route.as_path),
                or_none(&route.communities.join(" ")),
                route.reason.clone(),
            ]
        })
        .collect();
    text.push_str(&table(
        &["", "FROM", "NEXT-HOP", "AS-PATH", "COMMUNITIES", "REASON"],
        &rows,
    ));
    if !explanation.kernel_problem.is_empty() {
        text.push_str(&format!("\nNot in the kernel: {}\n", explanation.kernel_problem));
    }
    if !explanation.told.is_empty() {
        text.push_str("\nPeers:\n");
        let rows: Vec<Vec<String>> = explanation.told.iter().map(told).collect();
        text.push_str(&table(
            &["PEER", "TOLD", "NEXT-HOP", "AS-PATH", "COMMUNITIES", "REASON"],
            &rows,
        ));
    }
    Ok(text)
}

fn told(told: &Told) -> Vec<String> {
    let of =
        |text: fn(&crate::v1::Route) -> String| or_none(&told.route.as_ref().map(text).unwrap_or_default());
    vec![
        match told.has_path_id {
            true => format!("{} path {}", told.peer, told.path_id),
            false => told.peer.clone(),
        },
        if told.route.is_some() { "yes" } else { "no" }.to_owned(),
        of(|route| route.next_hop.clone()),
        of(|route| route.as_path.clone()),
        of(|route| route.communities.join(" ")),
        or_none(&told.reason),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::Route;

    #[test]
    fn paths_and_peers() {
        let path = |peer: &str, best: bool, reason: &str| Route {
            prefix: "10.1.0.0/24".into(),
            peer: peer.into(),
            next_hop: peer.into(),
            as_path: "65001".into(),
            best,
            reason: reason.into(),
            ..Route::default()
        };
        let explanation = Explanation {
            prefix: "10.1.0.0/24".into(),
            paths: vec![
                path("10.0.0.1", true, "best: shorter AS_PATH"),
                path("10.0.0.2", false, "not best: 10.0.0.1 has shorter AS_PATH"),
            ],
            told: vec![
                Told {
                    peer: "10.0.0.3".into(),
                    route: Some(path("10.0.0.9", false, "")),
                    ..Told::default()
                },
                Told {
                    peer: "10.0.0.1".into(),
                    reason: "it told us".into(),
                    ..Told::default()
                },
            ],
            kernel_problem: "next hop 10.0.0.1 is not reachable".into(),
        };
        assert_eq!(
            render(&explanation, Format::Ps).unwrap(),
            "\
10.1.0.0/24

Paths, the best one first:
   FROM      NEXT-HOP  AS-PATH  COMMUNITIES  REASON
>  10.0.0.1  10.0.0.1  65001    -            best: shorter AS_PATH
   10.0.0.2  10.0.0.2  65001    -            not best: 10.0.0.1 has shorter AS_PATH

Not in the kernel: next hop 10.0.0.1 is not reachable

Peers:
PEER      TOLD  NEXT-HOP  AS-PATH  COMMUNITIES  REASON
10.0.0.3  yes   10.0.0.9  65001    -            -
10.0.0.1  no    -         -        -            it told us
"
        );
    }
}
