//! What a router is told, in no router's words, and how each of them says it.

use std::fmt::Write;

/// Two sessions, over IPv4 and over IPv6, each for routes of its own family.
#[derive(Clone)]
pub(super) struct Setup {
    /// The router's AS. Ours is [`OUR_AS`].
    pub(super) asn: u32,
    /// TCP MD5 keys of the two sessions.
    pub(super) passwords: [&'static str; 2],
    /// Whether each session is confined to the link (RFC 5082).
    pub(super) link_only: [bool; 2],
    /// What the router is on each session (RFC 9234).
    pub(super) roles: [Option<Role>; 2],
    /// How many of our IPv4 routes it takes before it ends the session.
    pub(super) limit: Option<u32>,
    /// Seconds for which it wants its routes kept while it restarts.
    pub(super) restart_time_s: u32,
    /// Whether it only keeps our routes, and does not want us to keep its.
    pub(super) helps_only: bool,
    /// Seconds for which both keep routes beyond that (RFC 9494).
    pub(super) long_lived_s: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Customer,
    Peer,
}

pub(super) const OUR_AS: u32 = 4_200_000_001;
pub(super) const ANOTHER_AS: u32 = 4_200_000_002;
/// Router and we, by session.
pub(super) const THEIR: [&str; 2] = ["10.0.0.2", "fd00::2"];
pub(super) const OUR: [&str; 2] = ["10.0.0.1", "fd00::1"];

/// What the router announces with marks: communities 65100:7, 65100:7:8 and route target 65100:9.
pub(super) const THEIR_ROUTES: [&str; 2] = ["198.51.100.0/24", "2001:db8:2::/48"];
/// What it announces with GRACEFUL_SHUTDOWN.
pub(super) const THEIR_LEAVING_ROUTE: &str = "203.0.113.0/24";

impl Setup {
    pub(super) fn new(asn: u32) -> Self {
        Self {
            asn,
            passwords: [""; 2],
            link_only: [false; 2],
            roles: [None; 2],
            limit: None,
            restart_time_s: 60,
            helps_only: false,
            long_lived_s: None,
        }
    }

    pub(super) fn bird(&self) -> String {
        let marks = "bgp_origin = ORIGIN_IGP; bgp_community.add((65100,7)); bgp_large_community.add((65100,7,8)); \
             bgp_ext_community.add((rt,65100,9));";
        let [four, six] = THEIR_ROUTES;
        let mut text = format!(
            "log stderr all;\nrouter id 10.0.0.2;\nprotocol device {{ scan time 1; }}\n\
             protocol static {{ ipv4; route {four} blackhole {{ {marks} }};\n\
               route {THEIR_LEAVING_ROUTE} blackhole {{ bgp_community.add((65535,0)); }}; }}\n\
             protocol static {{ ipv6; route {six} blackhole {{ {marks} }}; }}\n"
        );
        for (at, (name, family)) in [("four", "ipv4"), ("six", "ipv6")].into_iter().enumerate() {
            let mut more = String::new();
            if !self.passwords[at].is_empty() {
                write!(more, "password \"{}\"; ", self.passwords[at]).unwrap();
            }
            if self.link_only[at] {
                more += "ttl security on; ";
            }
            match self.roles[at] {
                Some(Role::Customer) => more += "local role customer; ",
                Some(Role::Peer) => more += "local role peer; ",
                None => {}
            }
            let restarts = match self.restart_time_s {
                _ if self.helps_only => "graceful restart aware; ".to_owned(),
                seconds => format!("graceful restart on; graceful restart time {seconds}; "),
            };
            more += &restarts;
            if let Some(seconds) = self.long_lived_s {
                write!(
                    more,
                    "long lived graceful restart on; long lived stale time {seconds}; "
                )
                .unwrap();
            }
            let limit = match self.limit {
                Some(limit) if at == 0 => format!("import limit {limit} action disable;"),
                _ => String::new(),
            };
            write!(
                text,
                "protocol bgp {name} {{ local {} as {}; neighbor {} as {OUR_AS}; direct; hold time 9;\n\
                   connect retry time 1; error wait time 1, 2; enable extended messages on; {more}\n\
                   {family} {{ import all; export where source = RTS_STATIC; next hop self; {limit} }}; }}\n",
                THEIR[at], self.asn, OUR[at]
            )
            .unwrap();
        }
        text
    }

    pub(super) fn frr(&self) -> String {
        let [four, six] = OUR;
        let mut text = format!(
            "log stdout debugging\ndebug bgp neighbor-events\n\
             route-map marked permit 10\n set community 65100:7\n set large-community 65100:7:8\n \
             set extcommunity rt 65100:9\nexit\n\
             route-map leaving permit 10\n set community graceful-shutdown\nexit\n\
             router bgp {}\n bgp router-id 10.0.0.2\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
             timers bgp 3 9\n",
            self.asn
        );
        if self.helps_only {
            text += " bgp graceful-restart-disable\n";
        } else {
            text += " bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n";
            writeln!(text, " bgp graceful-restart restart-time {}", self.restart_time_s).unwrap();
        }
        if let Some(seconds) = self.long_lived_s {
            writeln!(text, " bgp long-lived-graceful-restart stale-time {seconds}").unwrap();
        }
        for (at, address) in OUR.into_iter().enumerate() {
            writeln!(
                text,
                " neighbor {address} remote-as {OUR_AS}\n neighbor {address} timers connect 1"
            )
            .unwrap();
            if self.helps_only {
                writeln!(text, " neighbor {address} graceful-restart-helper").unwrap();
            }
            if !self.passwords[at].is_empty() {
                writeln!(text, " neighbor {address} password {}", self.passwords[at]).unwrap();
            }
            if self.link_only[at] {
                writeln!(text, " neighbor {address} ttl-security hops 1").unwrap();
            }
            match self.roles[at] {
                Some(Role::Customer) => writeln!(text, " neighbor {address} local-role customer").unwrap(),
                Some(Role::Peer) => writeln!(text, " neighbor {address} local-role peer").unwrap(),
                None => {}
            }
        }
        let limit = match self.limit {
            Some(limit) => format!("  neighbor {four} maximum-prefix {limit}\n"),
            None => String::new(),
        };
        write!(
            text,
            " address-family ipv4 unicast\n  network {} route-map marked\n  \
             network {THEIR_LEAVING_ROUTE} route-map leaving\n  no neighbor {six} activate\n{limit} exit-address-family\n \
             address-family ipv6 unicast\n  network {} route-map marked\n  neighbor {six} activate\n exit-address-family\n",
            THEIR_ROUTES[0], THEIR_ROUTES[1]
        )
        .unwrap();
        text
    }

    pub(super) fn gobgp(&self) -> String {
        let mut text = format!("[global.config]\nas = {}\nrouter-id = \"10.0.0.2\"\n", self.asn);
        for (at, family) in ["ipv4-unicast", "ipv6-unicast"].into_iter().enumerate() {
            let [ours, password] = [OUR[at], self.passwords[at]];
            write!(
                text,
                "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{ours}\"\npeer-as = {OUR_AS}\n\
                 auth-password = \"{password}\"\n\
                 [neighbors.timers.config]\nhold-time = 9\nkeepalive-interval = 3\nconnect-retry = 1\n\
                 idle-hold-time-after-reset = 1\n\
                 [neighbors.graceful-restart.config]\nenabled = true\nnotification-enabled = true\n\
                 helper-only = {}\nrestart-time = {}\nlong-lived-enabled = {}\n",
                self.helps_only,
                self.restart_time_s,
                self.long_lived_s.is_some(),
            )
            .unwrap();
            if self.link_only[at] {
                text += "[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255\n";
            }
            write!(
                text,
                "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}\"\n\
                 [neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true\n"
            )
            .unwrap();
            if let Some(seconds) = self.long_lived_s {
                write!(
                    text,
                    "[neighbors.afi-safis.long-lived-graceful-restart.config]\nenabled = true\nrestart-time = {seconds}\n"
                )
                .unwrap();
            }
            if let Some(limit) = self.limit.filter(|_| at == 0) {
                write!(
                    text,
                    "[neighbors.afi-safis.prefix-limit.config]\nmax-prefixes = {limit}\n"
                )
                .unwrap();
            }
        }
        text
    }

    pub(super) fn openbgpd(&self) -> String {
        let marks = "set { community 65100:7 large-community 65100:7:8 ext-community rt 65100:9 }";
        let [four, six] = THEIR_ROUTES;
        let mut text = format!(
            "AS {}\nrouter-id 10.0.0.2\nfib-update no\nconnect-retry 1\nlog updates\nlisten on 0.0.0.0\nlisten on ::\n\
             network {four} {marks}\nnetwork {six} {marks}\n\
             network {THEIR_LEAVING_ROUTE} set community GRACEFUL_SHUTDOWN\n",
            self.asn
        );
        for (at, family) in ["IPv4", "IPv6"].into_iter().enumerate() {
            let mut more = String::new();
            if !self.passwords[at].is_empty() {
                writeln!(more, " tcp md5sig password {}", self.passwords[at]).unwrap();
            }
            if self.link_only[at] {
                more += " ttl-security yes\n";
            }
            match self.roles[at] {
                Some(Role::Customer) => more += " announce policy customer\n",
                Some(Role::Peer) => more += " announce policy peer\n",
                None => {}
            }
            if let Some(limit) = self.limit.filter(|_| at == 0) {
                writeln!(more, " max-prefix {limit}").unwrap();
            }
            write!(
                text,
                "neighbor {} {{\n remote-as {OUR_AS}\n local-address {}\n holdtime 9\n announce {family} unicast\n \
                 announce enhanced refresh yes\n{more}}}\n",
                OUR[at], THEIR[at]
            )
            .unwrap();
        }
        text + "allow from any\nallow to any\n"
    }

    pub(super) fn exabgp(&self) -> String {
        let marks = "next-hop self origin igp community [65100:7] large-community [65100:7:8] \
             extended-community [target:65100:9]";
        let mut text = String::new();
        for (at, family) in ["ipv4", "ipv6"].into_iter().enumerate() {
            let mut more = String::new();
            if !self.passwords[at].is_empty() {
                writeln!(more, " md5-password \"{}\";", self.passwords[at]).unwrap();
            }
            if self.link_only[at] {
                more += " outgoing-ttl 255;\n incoming-ttl 255;\n";
            }
            let leaving = if at == 0 {
                format!("unicast {THEIR_LEAVING_ROUTE} next-hop self community [65535:0];")
            } else {
                String::new()
            };
            write!(
                text,
                "neighbor {} {{\n router-id 10.0.0.2;\n local-address {};\n local-as {};\n peer-as {OUR_AS};\n \
                 hold-time 9;\n passive false;\n{more} \
                 capability {{ route-refresh enable; graceful-restart {}; extended-message enable; asn4 enable; }}\n \
                 family {{ {family} unicast; }}\n {}\n \
                 announce {{ {family} {{ unicast {} {marks}; {leaving} }} }}\n}}\n",
                OUR[at],
                THEIR[at],
                self.asn,
                self.restart_time_s,
                crate::routers::ExaBgp::API,
                THEIR_ROUTES[at]
            )
            .unwrap();
        }
        text
    }
}
