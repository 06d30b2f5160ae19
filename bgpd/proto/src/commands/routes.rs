//! `routes`.

use tonic::transport::Channel;

use super::output::{Format, NONE, document, line, or_none, print, table, widths};
use super::{CommandError, RoutesOptions, View, request};
use crate::v1::bgp_client::BgpClient;
use crate::v1::{ListRoutesRequest, Route};

pub(super) async fn run(
    client: &mut BgpClient<Channel>,
    options: &RoutesOptions,
) -> Result<(), CommandError> {
    let view = options.view.unwrap_or(match options.peer {
        Some(_) => View::Received,
        None => View::Best,
    });
    if view != View::Best && options.peer.is_none() {
        return Err(CommandError::Refused(format!(
            "--view {}: say whose, with --peer",
            view.as_str()
        )));
    }
    let asked = ListRoutesRequest {
        view: view.as_str().to_owned(),
        peer: options.peer.clone().unwrap_or_default(),
        prefix: options.prefix.clone().unwrap_or_default(),
        longer: options.longer,
        limit: options.limit,
    };
    if options.limit == 0 && (options.prefix.is_none() || options.longer) {
        return stream(client, asked, view, options.output.output).await;
    }
    let answer = client.list_routes(request(asked)).await?.into_inner();
    print(&render(&answer.routes, view, options.output.output)?)?;
    if answer.left_out > 0 {
        eprintln!(
            "{} more routes are not shown: use --limit 0 for all, or name a prefix.",
            answer.left_out
        );
    }
    Ok(())
}

/// All of them, printed as they come: a large table is in nobody's memory.
async fn stream(
    client: &mut BgpClient<Channel>,
    asked: ListRoutesRequest,
    view: View,
    format: Format,
) -> Result<(), CommandError> {
    // A slow reader may take as long as it likes.
    let mut pages = client.stream_routes(asked).await?.into_inner();
    let mut pager = Pager::new(view, format);
    while let Some(page) = pages.message().await? {
        print(&pager.page(&page.routes)?)?;
    }
    print(&pager.end()?)
}

/// Renders a list page by page.
struct Pager {
    view: View,
    format: Format,
    /// Of a table's columns so far.
    widths: Vec<usize>,
    is_empty: bool,
}

impl Pager {
    const fn new(view: View, format: Format) -> Self {
        Self {
            view,
            format,
            widths: Vec::new(),
            is_empty: true,
        }
    }

    fn page(&mut self, routes: &[Route]) -> Result<String, CommandError> {
        if routes.is_empty() {
            return Ok(String::new());
        }
        let first = std::mem::replace(&mut self.is_empty, false);
        match self.format {
            Format::Json => {
                let list = document(&routes, self.format)?.unwrap_or_default();
                // Between its brackets are the elements.
                let elements = list.trim_end().trim_start_matches('[').trim_end_matches(']');
                let before = if first { "[" } else { "," };
                Ok(format!("{before}{}", elements.trim_end()))
            }
            Format::Yaml => Ok(document(&routes, self.format)?.unwrap_or_default()),
            Format::Ps | Format::Wide => {
                let (headings, rows) = cells(routes, self.view, self.format);
                let mut text = String::new();
                // Columns may get wider with a later page; they stay where they are otherwise.
                let widths = widths(&headings, &rows).into_iter();
                self.widths.resize(headings.len(), 0);
                self.widths = widths.zip(&self.widths).map(|(new, old)| new.max(*old)).collect();
                if first {
                    text.push_str(&line(headings.iter().copied(), &self.widths));
                }
                for row in &rows {
                    text.push_str(&line(row.iter().map(String::as_str), &self.widths));
                }
                Ok(text)
            }
        }
    }

    /// What comes last.
    fn end(self) -> Result<String, CommandError> {
        match (self.is_empty, self.format) {
            (true, _) => render(&[], self.view, self.format),
            (false, Format::Json) => Ok("\n]\n".to_owned()),
            (false, _) => Ok(String::new()),
        }
    }
}

fn render(routes: &[Route], view: View, format: Format) -> Result<String, CommandError> {
    if let Some(text) = document(&routes, format)? {
        return Ok(text);
    }
    if routes.is_empty() {
        return Ok("No routes.\n".to_owned());
    }
    let (headings, rows) = cells(routes, view, format);
    Ok(table(&headings, &rows))
}

/// Headings and rows of a table.
fn cells(routes: &[Route], view: View, format: Format) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let wide = format == Format::Wide;
    let to_peer = view == View::Advertised;
    let mut headings = vec![
        "",
        "PREFIX",
        "NEXT-HOP",
        if to_peer { "TO" } else { "FROM" },
        "AS-PATH",
    ];
    headings.extend(["LOCAL-PREF", "MED"]);
    if wide {
        headings.extend(["ORIGIN", "COMMUNITIES"]);
    }
    if !to_peer {
        headings.push("REASON");
    }
    let rows = routes
        .iter()
        .map(|route| {
            let mut cells = vec![
                mark(route).to_owned(),
                route.prefix.clone(),
                route.next_hop.clone(),
                from(route),
                or_none(&route.as_path),
                number(route.has_local_pref, route.local_pref),
                number(route.has_med, route.med),
            ];
            if wide {
                cells.push(route.origin.clone());
                cells.push(or_none(&route.communities.join(" ")));
            }
            if !to_peer {
                cells.push(or_none(&route.reason));
            }
            cells
        })
        .collect();
    (headings, rows)
}

/// `>` for the best path, `=` for one that is used with it, `s` for one from before the peer's restart.
pub(super) fn mark(route: &Route) -> &'static str {
    match (route.best, route.multipath, route.stale) {
        (true, _, false) => ">",
        (true, _, true) => ">s",
        (false, true, false) => "=",
        (false, true, true) => "=s",
        (false, false, true) => "s",
        (false, false, false) => "",
    }
}

/// The peer, and with add-path which of its paths.
pub(super) fn from(route: &Route) -> String {
    match (route.peer.as_str(), route.has_path_id) {
        ("", _) => "this host".to_owned(),
        (peer, true) => format!("{peer} path {}", route.path_id),
        (peer, false) => peer.to_owned(),
    }
}

fn number(there: bool, value: u32) -> String {
    if there { value.to_string() } else { NONE.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(prefix: &str, peer: &str, reason: &str) -> Route {
        Route {
            prefix: prefix.into(),
            peer: peer.into(),
            next_hop: "10.0.0.1".into(),
            as_path: "65001 65002".into(),
            origin: "igp".into(),
            reason: reason.into(),
            communities: vec!["65001:1".into(), "65001:1:2".into()],
            ..Route::default()
        }
    }

    #[test]
    fn tables_of_routes() {
        let best = Route {
            best: true,
            local_pref: 100,
            has_local_pref: true,
            ..route("10.1.0.0/24", "10.0.0.1", "best: the only usable path")
        };
        let second = Route {
            multipath: true,
            path_id: 7,
            has_path_id: true,
            ..route("10.1.0.0/24", "10.0.0.2", "multipath: equal to the best path")
        };
        assert_eq!(from(&second), "10.0.0.2 path 7");
        let own = Route {
            as_path: String::new(),
            ..route("10.2.0.0/24", "", "not usable: rejected by the import policy")
        };
        assert_eq!(
            render(&[best.clone(), own], View::Best, Format::Ps).unwrap(),
            "\
\x20  PREFIX       NEXT-HOP  FROM       AS-PATH      LOCAL-PREF  MED  REASON
>  10.1.0.0/24  10.0.0.1  10.0.0.1   65001 65002  100         -    best: the only usable path
   10.2.0.0/24  10.0.0.1  this host  -            -           -    not usable: rejected by the import policy
"
        );
        assert_eq!(
            render(&[best], View::Advertised, Format::Wide).unwrap(),
            "\
\x20  PREFIX       NEXT-HOP  TO        AS-PATH      LOCAL-PREF  MED  ORIGIN  COMMUNITIES
>  10.1.0.0/24  10.0.0.1  10.0.0.1  65001 65002  100         -    igp     65001:1 65001:1:2
"
        );
        assert_eq!(render(&[], View::Best, Format::Ps).unwrap(), "No routes.\n");
    }

    /// Whatever the pages, the documents are those of the whole list, and the rows those of its table.
    #[test]
    fn a_list_in_pages_reads_as_one() {
        let routes: Vec<Route> = (0..7)
            .map(|n| route(&format!("10.{n}.0.0/24"), "10.0.0.1", &"because ".repeat(n)))
            .collect();
        for format in [Format::Json, Format::Yaml, Format::Ps, Format::Wide] {
            for size in [1, 3, 7] {
                let mut pager = Pager::new(View::Best, format);
                let mut text = String::new();
                for page in routes.chunks(size) {
                    text.push_str(&pager.page(&[]).unwrap());
                    text.push_str(&pager.page(page).unwrap());
                }
                text.push_str(&pager.end().unwrap());
                let whole = render(&routes, View::Best, format).unwrap();
                let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
                match format {
                    Format::Json | Format::Yaml => assert_eq!(text, whole),
                    Format::Ps | Format::Wide => assert_eq!(words(&text), words(&whole)),
                }
            }
            let none = Pager::new(View::Best, format).end().unwrap();
            assert_eq!(none, render(&[], View::Best, format).unwrap());
        }
    }
}
