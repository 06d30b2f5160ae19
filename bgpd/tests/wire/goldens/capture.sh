#!/bin/sh
# Makes the goldens: what BIRD, FRR and GoBGP send to a neighbour, as one hex line a TCP stream.
# usage: capture.sh BGPD DIRECTORY, as root, in an empty network namespace:
#   unshare --net --mount-proc --pid --fork ./capture.sh /path/to/bgpd /tmp/goldens
set -eu
bgpd=$1 out=$2
work=$(mktemp -d)
mkdir -p "$out"
unshare --net sleep 60 &
inside="nsenter --net -t $!"
sleep 2
ip link add eth0 type veth peer name eth0 netns $!
ip link set lo up
ip addr add 10.0.0.1/24 dev eth0
ip addr add fd00::1/64 dev eth0 nodad
ip link set eth0 up
$inside ip link set lo up
$inside ip addr add 10.0.0.2/24 dev eth0
$inside ip addr add fd00::2/64 dev eth0 nodad
$inside ip link set eth0 up
sleep 2

cat > "$work/ours.toml" <<END
[global]
as = 65001
router-id = "10.0.0.1"
listen = ["10.0.0.1:179", "[fd00::1]:179"]
fib = false
[[neighbor]]
address = "10.0.0.2"
source = "10.0.0.1"
as = 4200000002
passive = true
families = ["ipv4", "ipv6"]
[[neighbor]]
address = "fd00::2"
source = "fd00::1"
as = 4200000002
passive = true
END

cat > "$work/bird.conf" <<END
router id 10.0.0.2;
protocol device {}
protocol static { ipv4; route 198.51.100.0/24 blackhole; route 203.0.113.128/25 blackhole; route 0.0.0.0/0 blackhole; }
protocol static { ipv6; route 2001:db8:2::/48 blackhole; route 2001:db8:3::/52 blackhole; }
filter rich {
  if source != RTS_STATIC then reject;
  bgp_origin = ORIGIN_INCOMPLETE; bgp_med = 77;
  bgp_path.prepend(65010); bgp_path.prepend(4200000009);
  bgp_community.add((65000, 1)); bgp_community.add((65535, 65281));
  bgp_large_community.add((4200000002, 7, 8));
  bgp_ext_community.add((rt, 65000, 99));
  accept;
}
protocol bgp four { local 10.0.0.2 as 4200000002; neighbor 10.0.0.1 as 65001; connect retry time 1; connect delay time 1;
  ipv4 { import all; export filter rich; next hop self; }; }
protocol bgp six { local fd00::2 as 4200000002; neighbor fd00::1 as 65001; connect retry time 1; connect delay time 1;
  ipv6 { import all; export filter rich; next hop self; }; }
END

cat > "$work/frr.conf" <<END
router bgp 4200000002
 bgp router-id 10.0.0.2
 no bgp ebgp-requires-policy
 no bgp network import-check
 bgp graceful-restart
 neighbor 10.0.0.1 remote-as 65001
 neighbor 10.0.0.1 update-source 10.0.0.2
 neighbor 10.0.0.1 timers connect 1
 neighbor fd00::1 remote-as 65001
 neighbor fd00::1 update-source fd00::2
 neighbor fd00::1 timers connect 1
 address-family ipv4 unicast
  network 198.51.100.0/24
  network 203.0.113.1/32
  aggregate-address 203.0.112.0/20
  no neighbor fd00::1 activate
  neighbor 10.0.0.1 route-map rich out
 exit-address-family
 address-family ipv6 unicast
  network 2001:db8:2::/48
  neighbor fd00::1 activate
  neighbor fd00::1 route-map rich out
 exit-address-family
route-map rich permit 10
 set community 65000:1 no-export
 set large-community 4200000002:7:8
 set metric 77
 set as-path prepend 65010
END

cat > "$work/gobgp.toml" <<END
[global.config]
as = 4200000002
router-id = "10.0.0.2"
port = -1
[[neighbors]]
[neighbors.config]
neighbor-address = "10.0.0.1"
peer-as = 65001
[neighbors.transport.config]
local-address = "10.0.0.2"
[neighbors.graceful-restart.config]
enabled = true
restart-time = 90
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = "ipv4-unicast"
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = "ipv6-unicast"
END

capture() { # name, seconds
    tcpdump -q -U -i eth0 -w "$work/$1.pcap" 'tcp port 179' 2> "$work/$1.tcpdump" &
    dump=$!
    "$bgpd" --config "$work/ours.toml" 2> "$work/$1.ours" &
    ours=$!
    sleep 1
    case $1 in
    bird) $inside bird -f -c "$work/bird.conf" -s "$work/bird.ctl" -P "$work/bird.pid" & router=$! ;;
    frr)
        $inside /usr/lib/frr/bgpd -S -Z -n -f "$work/frr.conf" -i "$work/frr.pid" --vty_socket "$work" -P 0 -p 0 \
            --log stdout > "$work/frr.log" 2>&1 &
        router=$!
        ;;
    gobgp)
        $inside gobgpd -t toml -f "$work/gobgp.toml" --api-hosts 127.0.0.1:50051 > "$work/gobgp.log" 2>&1 &
        router=$!
        sleep 2
        $inside gobgp global rib add 198.51.100.0/24 origin egp nexthop 10.0.0.2 med 77 community 65000:1 \
            large-community 4200000002:7:8 rt 65000:99 aspath '65010 {65011,4200000012}' \
            aggregator 4200000002:10.0.0.2
        $inside gobgp global rib add -a ipv6 2001:db8:2::/48 origin igp nexthop fd00::2
        ;;
    esac
    sleep "$2"
    kill $router $ours
    wait $router $ours || true
    sleep 1
    kill $dump
    wait $dump || true
    for source in 10.0.0.2 fd00::2; do
        case $source in *:*) field=ipv6.src family=v6 ;; *) field=ip.src family=v4 ;; esac
        hex=$(tshark -r "$work/$1.pcap" -Y "tcp.len > 0 && $field == $source" -T fields -e tcp.payload | tr -d '\n')
        [ -z "$hex" ] || echo "$hex" > "$out/$1-$family.hex"
    done
    tshark -r "$work/$1.pcap" -Y bgp -V > "$out/../$1.txt" 2> /dev/null || true
}

capture bird 6
capture frr 10
capture gobgp 8
rm -rf "$work"
