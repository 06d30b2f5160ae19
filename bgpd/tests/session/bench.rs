//! One session whose events the test chooses.

use std::net::Ipv4Addr;
use std::time::Duration;

use bgpd::config::{GracefulRestartMode, RouteRefreshMode};
use bgpd::session::{
    Action, ConnectionId, DownReason, Event, Outgoing, Received, Session, Settings, State, Timestamp,
};
use bgpd::wire::{AddPath, Capabilities, Family, FamilySet, GracefulRestart, Notification, Open};

pub(crate) fn both() -> FamilySet {
    Family::ALL.into_iter().collect()
}

pub(crate) fn v4() -> FamilySet {
    [Family::Ipv4Unicast].into_iter().collect()
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// AS 65001 and 10.0.0.1, for a neighbour in AS 65002.
pub(crate) fn settings() -> Settings {
    Settings {
        local_as: 65001,
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        remote_as: 65002.into(),
        extended_next_hop: false,
        passive: false,
        families: both(),
        hold_time: seconds(90),
        keepalive: None,
        delay_open: None,
        role: None,
        role_strict: false,
        route_refresh: RouteRefreshMode::Enhanced,
        graceful_restart: GracefulRestartMode::Both,
        add_path: AddPath::default(),
        long_lived_stale_time: Duration::ZERO,
        restart_time_s: 120,
        forwarding_preserved: true,
        restarting: false,
        shutdown_message: None,
        alternative_as: None,
        bfd_strict: None,
        as_sets: false,
    }
}

/// What a neighbour in AS 65002 with 10.0.0.2 sends.
pub(crate) fn open() -> Open {
    Open {
        asn: 65002,
        hold_time_s: 90,
        router_id: Ipv4Addr::new(10, 0, 0, 2),
        capabilities: Capabilities {
            families: both(),
            route_refresh: true,
            four_octet_as: Some(65002),
            ..Capabilities::default()
        },
    }
}

pub(crate) fn open_with_restart() -> Open {
    let mut open = open();
    let families = both();
    open.capabilities.graceful_restart = Some(GracefulRestart {
        restart_time_s: 120,
        families,
        ..GracefulRestart::default()
    });
    open
}

pub(crate) const FIRST: ConnectionId = ConnectionId(1);
pub(crate) const SECOND: ConnectionId = ConnectionId(2);

pub(crate) struct Bench {
    pub(crate) session: Session,
    pub(crate) now: Timestamp,
}

impl Bench {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            session: Session::new(settings, 7),
            now: Timestamp::default(),
        }
    }

    pub(crate) fn started(settings: Settings) -> Self {
        let mut bench = Self::new(settings);
        bench.handle(Event::Start);
        bench
    }

    /// In OpenSent on connection [`FIRST`], which we made.
    pub(crate) fn open_sent(settings: Settings) -> Self {
        let mut bench = Self::started(settings);
        bench.handle(Event::Connected(FIRST));
        assert_eq!(bench.state(), State::OpenSent);
        bench
    }

    pub(crate) fn open_confirm(settings: Settings, open: Open) -> Self {
        let mut bench = Self::open_sent(settings);
        bench.receive(FIRST, Received::Open(open));
        assert_eq!(bench.state(), State::OpenConfirm);
        bench
    }

    pub(crate) fn established(settings: Settings, open: Open) -> Self {
        let mut bench = Self::open_confirm(settings, open);
        bench.receive(FIRST, Received::Keepalive);
        assert_eq!(bench.state(), State::Established);
        bench
    }

    pub(crate) fn state(&self) -> State {
        self.session.state()
    }

    pub(crate) fn handle(&mut self, event: Event) -> Vec<Action> {
        self.session.handle(event, self.now)
    }

    pub(crate) fn receive(&mut self, id: ConnectionId, message: Received) -> Vec<Action> {
        self.handle(Event::Received(id, message))
    }

    /// Lets time pass to the next timer.
    pub(crate) fn next_timer(&mut self) -> (Duration, Vec<Action>) {
        let at = self.session.poll_timeout().unwrap();
        let waited = at.0 - self.now.0;
        self.now = at;
        (waited, self.handle(Event::Timer))
    }

    /// Lets time pass, timers going off on the way, and gives all that they did.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<Action> {
        let end = self.now + time;
        let mut actions = Vec::new();
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            actions.extend(self.handle(Event::Timer));
        }
        self.now = end;
        actions
    }
}

/// The one NOTIFICATION among actions, which must be followed by the connection's end.
pub(crate) fn notification(actions: &[Action]) -> (u8, u8) {
    let (code, subcode, _) = notification_with_data(actions);
    (code, subcode)
}

pub(crate) fn notification_with_data(actions: &[Action]) -> (u8, u8, Vec<u8>) {
    let mut found = actions
        .iter()
        .enumerate()
        .filter_map(|(at, action)| match action {
            Action::Send(id, Outgoing::Notification(notification)) => Some((at, *id, notification.clone())),
            _ => None,
        });
    let (at, id, Notification { code, subcode, data }) = found.next().expect("a NOTIFICATION");
    assert!(found.next().is_none(), "one NOTIFICATION in {actions:?}");
    assert_eq!(actions.get(at + 1), Some(&Action::Close(id)), "closed after it");
    (code, subcode, data)
}

pub(crate) fn sent_open(actions: &[Action]) -> &Open {
    let open = |action| match action {
        &Action::Send(_, Outgoing::Open(ref open)) => Some(open),
        _ => None,
    };
    actions.iter().find_map(open).expect("an OPEN")
}

pub(crate) fn down(actions: &[Action]) -> Option<(&DownReason, FamilySet)> {
    actions.iter().find_map(|action| match action {
        Action::Down { reason, retain } => Some((reason, *retain)),
        _ => None,
    })
}
