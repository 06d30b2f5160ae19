//! `create`, `apply`, `replace`, `delete` and `get`, against the embedded store and against etcd.

mod harness;

use harness::{Fixture, StoreKind};

fn pool(name: &str, cidr: &str) -> String {
    format!(
        "kind: IPPool\napiVersion: projectcalico.org/v3\nmetadata:\n  name: {name}\nspec:\n  cidr: {cidr}\n"
    )
}

/// Puts `<X>` in the place of what differs from run to run.
fn masked(text: &str) -> String {
    let value = |line: &str, key: &str| -> Option<String> {
        let at = line.find(key)? + key.len();
        Some(format!("{}<X>", &line[..at]))
    };
    text.lines()
        .map(|line| {
            ["creationTimestamp: ", "uid: ", "resourceVersion: "]
                .iter()
                .find_map(|key| value(line, key))
                .unwrap_or_else(|| line.to_owned())
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_of_a_resource() {
    for kind in StoreKind::BOTH {
        let store = Fixture::start(kind).await;
        let file = store.write(
            "pools.yaml",
            &format!("{}---\n{}", pool("a", "10.0.0.0/16"), pool("b", "10.1.0.0/16")),
        );
        store
            .run(&["create", "-f", &file])
            .printed("Successfully created 2 'IPPool' resource(s)\n");
        store.run(&["create", "-f", &file]).failed(
            "",
            &format!(
                "failed to create any 'IPPool' resources: [{file}:1: resource already exists: IPPool(a) with error: <nil> \
                 {file}:8: resource already exists: IPPool(b) with error: <nil>]\n"
            ),
        );
        store
            .run(&["create", "--skip-exists", "-f", &file])
            .printed("Successfully created 2 'IPPool' resource(s)\n");
        store
            .run(&["apply", "-f", &file])
            .printed("Successfully applied 2 'IPPool' resource(s)\n");
        store.run(&["get", "ippools"]).printed(
            "NAME   CIDR          SELECTOR   \na      10.0.0.0/16   all()      \nb      10.1.0.0/16   all()      \n\n",
        );
        store.run(&["get", "pool", "b", "-o", "wide"]).printed(
            "NAME   CIDR          NAT     IPIPMODE   VXLANMODE   DISABLED   DISABLEBGPEXPORT   SELECTOR   ASSIGNMENTMODE   \n\
             b      10.1.0.0/16   false   Never      Never       false      false              all()      Automatic        \n\n",
        );
        let yaml = store.run(&["get", "IPPool", "a", "-o", "yaml"]);
        assert_eq!(
            masked(&yaml.out),
            "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata:\n  creationTimestamp: <X>\n  name: a\n  \
             resourceVersion: <X>\n  uid: <X>\nspec:\n  allowedUses:\n  - Workload\n  - Tunnel\n  assignmentMode: \
             Automatic\n  blockSize: 26\n  cidr: 10.0.0.0/16\n  ipipMode: Never\n  nodeSelector: all()\n  vxlanMode: Never"
        );
        // What get prints, apply takes back: also with the resource version in it.
        let printed = store.write("printed.yaml", &yaml.out);
        store
            .run(&["apply", "-f", &printed])
            .printed("Successfully applied 1 'IPPool' resource(s)\n");
        // Now that version is an old one.
        store.run(&["replace", "-f", &printed]).failed(
            "Partial success: replaced the first 1 out of 1 'IPPool' resources:\n",
            &format!("hit error: {printed}:1: update conflict: IPPool(a)\n"),
        );
        store.run(&["delete", "-f", &printed]).failed(
            "",
            &format!("failed to delete 'IPPool' resource: [{printed}:1: update conflict: IPPool(a)]\n"),
        );
        store.run(&["delete", "ippool", "a", "nope"]).failed(
            "Successfully deleted 1 'IPPool' resource(s)\n",
            "Failed to delete 'IPPool' resource: resource does not exist: IPPool(nope) with error: <nil>\n",
        );
        store
            .run(&["delete", "ippool", "a", "-s"])
            .printed("Successfully deleted 1 'IPPool' resource(s)\n");
        store.run(&["replace", "-f", &file]).failed(
            "Partial success: replaced the first 2 out of 2 'IPPool' resources:\n",
            &format!("hit error: {file}:1: resource does not exist: IPPool(a) with error: <nil>\n"),
        );
        store
            .run(&["get", "ippool", "-o", "custom-columns=CIDR,NAME"])
            .printed("CIDR          NAME   \n10.1.0.0/16   b      \n\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_calicos() {
    for kind in StoreKind::BOTH {
        let store = Fixture::start(kind).await;
        let policy = "kind: NetworkPolicy\napiVersion: projectcalico.org/v3\nmetadata:\n  name: allow-web\nspec:\n  order: \
                      100\n  selector: app == \"web\"\n  ingress:\n  - action: Allow\n    protocol: TCP\n    source: \
                      {selector: role == \"fe\" && has(x)}\n    destination: {ports: [\"80\", \"8000:8080\", http]}\n";
        store
            .run_with_input(&["apply", "-f", "-"], policy)
            .printed("Successfully applied 1 'NetworkPolicy' resource(s)\n");
        let stored = store.stored("/calico/resources/v3/projectcalico.org/networkpolicies/default/allow-web");
        let (head, rest) = stored.split_once(",\"uid\":\"").unwrap();
        let (_, rest) = rest.split_once("Z\"").unwrap();
        assert_eq!(
            format!("{head}{rest}"),
            r#"{"kind":"NetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"allow-web","namespace":"default","labels":{"projectcalico.org/tier":"default"},"annotations":{"projectcalico.org/metadata":"{\"name\":\"allow-web\"}"}},"spec":{"tier":"default","order":100,"ingress":[{"action":"Allow","protocol":"TCP","source":{"selector":"role == \"fe\" \u0026\u0026 has(x)"},"destination":{"ports":[80,"8000:8080","http"]}}],"selector":"app == \"web\"","types":["Ingress"]}}"#
        );
        // Modifying commands initialise the datastore.
        assert_eq!(
            store.keys(),
            [
                "/calico/resources/v3/projectcalico.org/clusterinformations/default",
                "/calico/resources/v3/projectcalico.org/networkpolicies/default/allow-web",
                "/calico/resources/v3/projectcalico.org/tiers/default",
                "/calico/resources/v3/projectcalico.org/tiers/kube-admin",
                "/calico/resources/v3/projectcalico.org/tiers/kube-baseline",
            ]
        );
        store
            .run(&["get", "tiers"])
            .printed("NAME            ORDER   \nkube-admin      1000    \ndefault         1e+06   \nkube-baseline   1e+07   \n\n");
        // Fields that this version does not know outlive an apply.
        let key = "/calico/resources/v3/projectcalico.org/networkpolicies/default/allow-web";
        store.put(
            key,
            &stored.replace("\"order\":100,", "\"order\":100,\"invented\":{\"a\":1},"),
        );
        store
            .run_with_input(&["apply", "-f", "-"], &policy.replace("100", "200"))
            .printed("Successfully applied 1 'NetworkPolicy' resource(s)\n");
        let stored = store.stored(key);
        assert!(stored.contains("\"order\":200"), "{stored}");
        assert!(stored.contains("\"invented\":{\"a\":1}"), "{stored}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_documents_are_named_and_the_ones_before_them_kept() {
    for kind in StoreKind::BOTH {
        let store = Fixture::start(kind).await;
        let file = store.write(
            "mixed.yaml",
            &format!(
                "{}---\n{}---\n{}---\n{}---\n{}",
                pool("good", "10.0.0.0/16"),
                pool("overlapping", "10.0.128.0/17"),
                pool("wrong", "10.2.0.1/16"),
                pool("other", "10.3.0.0/16"),
                pool("unknown", "10.4.0.0/16").replace("cidr:", "cdir:"),
            ),
        );
        let ran = store.run(&["apply", "-f", &file]);
        assert_eq!(
            ran.out,
            "Partial success: applied the first 2 out of 5 'IPPool' resources:\n"
        );
        assert_eq!(
            ran.err,
            format!(
                "hit error: [{file}:13: IPPool(overlapping): error with field IPPool.Spec.CIDR = '10.0.128.0/17' \
                 (IPPool(overlapping) CIDR overlaps with IPPool(good) CIDR 10.0.0.0/16) {file}:20: IPPool(wrong): field \
                 spec.cidr = '10.2.0.1/16': IPPool CIDR is not strictly masked {file}:34: IPPool(unknown): field \
                 spec.cdir: field in document is not recognized or is in the wrong location: cdir; correct its spelling \
                 or remove it]\n"
            )
        );
        assert_eq!(ran.code, Some(1));
        store
            .run(&["get", "ippool", "-o", "custom-columns=NAME"])
            .printed("NAME    \ngood    \nother   \n\n");

        let selector = store.write(
            "selector.yaml",
            "kind: GlobalNetworkPolicy\napiVersion: projectcalico.org/v3\nmetadata: {name: p}\nspec:\n  selector: a = 'b'\n",
        );
        store.run(&["create", "-f", &selector]).failed(
            "",
            &format!(
                "failed to create 'GlobalNetworkPolicy' resource: [{selector}:5: GlobalNetworkPolicy(p): field \
                 spec.selector = 'a = 'b'': invalid selector: expected ==]\n"
            ),
        );
        let tier = store.write(
            "tier.yaml",
            "kind: GlobalNetworkPolicy\napiVersion: projectcalico.org/v3\nmetadata: {name: p}\nspec: {tier: nope}\n",
        );
        store.run(&["create", "-f", &tier]).failed(
            "",
            &format!(
                "failed to create 'GlobalNetworkPolicy' resource: [{tier}:1: GlobalNetworkPolicy(p): resource does not \
                 exist: Tier(nope) with error: <nil>]\n"
            ),
        );
        store.run(&["delete", "tier", "default"]).failed(
            "",
            "failed to delete 'Tier' resource: [operation Delete is not supported on Tier(default): Cannot delete default tier]\n",
        );
        // The pool's range is what it was created with.
        let moved = store.write("moved.yaml", &pool("good", "10.9.0.0/16"));
        store.run(&["apply", "-f", &moved]).failed(
            "",
            &format!(
                "failed to apply 'IPPool' resource: [{moved}:6: IPPool(good): error with field IPPool.Spec.CIDR = \
                 '10.9.0.0/16' (IPPool CIDR cannot be modified)]\n"
            ),
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_folders_and_standard_input() {
    let store = Fixture::start(StoreKind::Embedded).await;
    let tier = |name: &str| {
        format!(
            "{{\"kind\": \"Tier\", \"apiVersion\": \"projectcalico.org/v3\", \"metadata\": {{\"name\": \"{name}\"}}}}"
        )
    };
    store.write("dir/2.JSON", &tier("two"));
    store.write("dir/1.yml", &format!("[{}, {}]", tier("one-a"), tier("one-b")));
    store.write("dir/ignored.txt", "not: [yaml");
    store.write("dir/sub/3.yaml", &tier("three"));
    std::fs::create_dir(store.path("empty")).unwrap();
    let folder = store.path("dir").to_str().unwrap().to_owned();
    let empty = store.path("empty").to_str().unwrap().to_owned();
    store
        .run(&["apply", "-f", &folder])
        .printed("Successfully applied 3 'Tier' resource(s)\n");
    store
        .run(&["apply", "-R", "-f", &folder])
        .printed("Successfully applied 4 'Tier' resource(s)\n");
    let list = format!(
        "kind: TierList\napiVersion: projectcalico.org/v3\nitems: [{}]\n",
        tier("four")
    );
    store
        .run_with_input(&["create", "-f", "-"], &list)
        .printed("Successfully created 1 'Tier' resource(s)\n");
    store.run_with_input(&["create", "-f", "-"], "a: [").failed(
        "",
        "failed to execute command: <stdin>:1: syntax error: unclosed bracket '[' at line 1, column 4\n",
    );
    store.run(&["apply", "-f", &empty]).failed(
        "",
        &format!("failed to execute command: no resources specified in directory {empty}\n"),
    );
    store
        .run(&["apply", "--skip-empty", "-f", &empty])
        .printed("No resources specified\n");
    let nothing = store.path("nothing.yaml").to_str().unwrap().to_owned();
    let missing = store.run(&["apply", "-f", &nothing]);
    assert_eq!(missing.code, Some(1));
    assert!(
        missing
            .err
            .starts_with(&format!("failed to execute command: cannot read {nothing}: ")),
        "{missing:?}"
    );
    store
        .run(&["validate", "-R", "-f", &folder])
        .printed("Successfully validated 4 'Tier' resource(s)\n");
    let got = store.run(&["get", "-o", "custom-columns=NAME", "-f", &folder]);
    assert_eq!(
        got.out,
        "NAME    \none-a   \n\nNAME    \none-b   \n\nNAME   \ntwo    \n\n"
    );
    store
        .run(&["delete", "-R", "-f", &folder])
        .printed("Successfully deleted 4 'Tier' resource(s)\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces() {
    let store = Fixture::start(StoreKind::Embedded).await;
    let set = "kind: NetworkSet\napiVersion: projectcalico.org/v3\nmetadata: {name: s}\nspec: {nets: [10.0.0.0/8, 192.0.2.1]}\n";
    let file = store.write("set.yaml", set);
    let named = store.write("named.yaml", &set.replace("name: s", "name: s, namespace: other"));
    store
        .run(&["apply", "-f", &file])
        .printed("Successfully applied 1 'NetworkSet' resource(s)\n");
    store
        .run(&["apply", "-n", "mine", "-f", &file])
        .printed("Successfully applied 1 'NetworkSet' resource(s)\n");
    store
        .run(&["apply", "-f", &named])
        .printed("Successfully applied 1 'NetworkSet' resource(s)\n");
    store.run(&["apply", "-n", "mine", "-f", &named]).failed(
        "",
        &format!(
            "failed to apply 'NetworkSet' resource: [{named}:1: NetworkSet(other/s): resource namespace does not match \
             client namespace. other != mine]\n"
        ),
    );
    store.run(&["get", "netsets"]).printed("NAME   \ns      \n\n");
    store
        .run(&["get", "netsets", "-n", "mine", "-o", "wide"])
        .printed(
            "NAMESPACE   NAME   NETS                   \nmine        s      10.0.0.0/8,192.0.2.1   \n\n",
        );
    for flag in ["-A", "-a", "--all-namespaces"] {
        store.run(&["get", "netsets", flag]).printed(
            "NAMESPACE   NAME   \ndefault     s      \nmine        s      \nother       s      \n\n",
        );
    }
    store.run(&["get", "netsets", "s", "-A"]).failed(
        "",
        "cannot use --all-namespace flag for getting a single resource\n",
    );
    store.run(&["get", "netsets", "-A", "-n", "x"]).failed(
        "",
        "cannot use both --namespace and --all-namespaces flags at the same time\n",
    );
    store
        .run(&["get", "tiers", "-n", "x"])
        .failed("", "Tier is not namespaced\n");
    store
        .run(&["delete", "networkset", "s", "-n", "mine"])
        .printed("Successfully deleted 1 'NetworkSet' resource(s)\n");
    let exported = store.run(&["get", "networkset", "s", "--export", "-o", "json"]);
    assert_eq!(
        exported.out,
        "{\n  \"kind\": \"NetworkSet\",\n  \"apiVersion\": \"projectcalico.org/v3\",\n  \"metadata\": {\n    \"name\": \"s\"\n  \
         },\n  \"spec\": {\n    \"nets\": [\n      \"10.0.0.0/8\",\n      \"192.0.2.1\"\n    ]\n  }\n}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_created_and_shown() {
    let store = Fixture::start(StoreKind::Embedded).await;
    let header = |kind: &str, metadata: &str, spec: &str| {
        format!(
            "{{kind: {kind}, apiVersion: projectcalico.org/v3, metadata: {{{metadata}}}, spec: {{{spec}}}}}\n"
        )
    };
    let documents = [
        header(
            "BGPConfiguration",
            "name: default",
            "asNumber: 64513, nodeToNodeMeshEnabled: false",
        ),
        header(
            "BGPPeer",
            "name: tor",
            "peerIP: 192.0.2.1, asNumber: 65000, nodeSelector: rack == '1'",
        ),
        header(
            "GlobalNetworkPolicy",
            "name: g",
            "order: 10.5, selector: all(), types: [Egress]",
        ),
        header("GlobalNetworkSet", "name: gs", "nets: [192.0.2.0/24]"),
        header(
            "HostEndpoint",
            "name: h",
            "node: n1, interfaceName: eth0, expectedIPs: [192.0.2.1]",
        ),
        header(
            "IPAMConfiguration",
            "name: default",
            "strictAffinity: true, autoAllocateBlocks: true",
        ),
        header("IPPool", "name: p", "cidr: 'fd00:1::/64'"),
        header("NetworkPolicy", "name: np", "order: 1000000"),
        header("NetworkSet", "name: ns", "nets: [192.0.2.1]"),
        header(
            "Node",
            "name: n1",
            "bgp: {asNumber: 65001, ipv4Address: 192.0.2.1/24}",
        ),
        header("Node", "name: n2", "bgp: {ipv6Address: 'fd00::1/64'}"),
        header("Profile", "name: pr", "labelsToApply: {a: b, c: d}"),
        header("Tier", "name: t", "order: 5, defaultAction: Pass"),
        header(
            "WorkloadEndpoint",
            "annotations: {a: b}",
            "orchestrator: k8s, node: n1, pod: web-1, endpoint: eth0, interfaceName: cali1, ipNetworks: [10.0.0.1/32], \
             profiles: [pr], ipNATs: [{internalIP: 10.0.0.1, externalIP: 192.0.2.9}]",
        ),
    ];
    let file = store.write("all.yaml", &documents.join("---\n"));
    store
        .run(&["create", "-f", &file])
        .printed("Successfully created 14 resource(s)\n");
    store
        .run(&["apply", "-f", &file])
        .printed("Successfully applied 14 resource(s)\n");
    store
        .run(&["replace", "-f", &file])
        .printed("Successfully replaced 14 resource(s)\n");
    for (arguments, expected) in [
        (
            &["bgpconfig"] as &[&str],
            "NAME      LOGSEVERITY   MESHENABLED   ASNUMBER   \ndefault   Info          false         64513      \n",
        ),
        (
            &["bgppeers"],
            "NAME   PEERIP      NODE          ASN     \ntor    192.0.2.1   rack == '1'   65000   \n",
        ),
        (
            &["gnp", "-o", "wide"],
            "NAME   TIER      ORDER   SELECTOR   \ng      default   10.5    all()      \n",
        ),
        (
            &["gnetsets", "-o", "wide"],
            "NAME   NETS           \ngs     192.0.2.0/24   \n",
        ),
        (
            &["hep", "-o", "wide"],
            "NAME   NODE   INTERFACE   IPS         PROFILES   \nh      n1     eth0        192.0.2.1              \n",
        ),
        (
            &["ipamconfig"],
            "NAME      STRICTAFFINITY   AUTOALLOCATEBLOCKS   \ndefault   true             true                 \n",
        ),
        (
            &["ippool"],
            "NAME   CIDR          SELECTOR   \np      fd00:1::/64   all()      \n",
        ),
        (
            &["np", "-o", "wide"],
            "NAME   TIER      ORDER   SELECTOR   \nnp     default   1e+06              \n",
        ),
        (&["node"], "NAME   \nn1     \nn2     \n"),
        (
            &["node", "-o", "wide"],
            "NAME   ASN       IPV4           IPV6         \nn1     65001     192.0.2.1/24                \nn2     (64513)                  fd00::1/64   \n",
        ),
        (
            &["profiles", "-o", "wide"],
            "NAME                          LABELS    \npr                            a=b,c=d   \nprojectcalico-default-allow             \n",
        ),
        (
            &["wep"],
            "WORKLOAD   NODE   NETWORKS      INTERFACE   \nweb-1      n1     10.0.0.1/32   cali1       \n",
        ),
        (
            &["wep", "-o", "wide"],
            "NAME                    WORKLOAD   NODE   NETWORKS      INTERFACE   PROFILES   NATS                   \n\
             n1-k8s-web--1-eth0      web-1      n1     10.0.0.1/32   cali1       pr         {10.0.0.1 192.0.2.9}   \n",
        ),
    ] {
        let mut command = vec!["get"];
        command.extend(arguments);
        let ran = store.run(&command);
        let normal = |text: &str| -> Vec<Vec<String>> {
            text.trim_end()
                .lines()
                .map(|l| {
                    l.split("  ")
                        .map(|c| c.trim().to_owned())
                        .filter(|c| !c.is_empty())
                        .collect()
                })
                .collect()
        };
        assert_eq!(normal(&ran.out), normal(expected), "{arguments:?}");
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
        assert!(ran.out.ends_with("   \n\n"), "{arguments:?}: {:?}", ran.out);
    }
    let info = store.run(&["get", "clusterinfo", "-o", "json"]);
    assert!(info.out.contains("\"datastoreReady\": true"), "{info:?}");
    let file = store.write(
        "ci.yaml",
        &header("ClusterInformation", "name: default", "datastoreReady: false"),
    );
    store.run(&["apply", "-f", &file]).failed(
        "",
        &format!(
            "failed to apply 'ClusterInformation' resource: [{file}:1: ClusterInformation(default): operation apply is not \
             supported on ClusterInformation: resource is readonly]\n"
        ),
    );
    // The node takes its workload endpoint with it.
    store
        .run(&[
            "delete",
            "-s",
            "-f",
            &store.write("all.yaml", &documents.join("---\n")),
        ])
        .printed("Successfully deleted 14 resource(s)\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_and_formats() {
    let store = Fixture::start(StoreKind::Embedded).await;
    store
        .run(&["get", "nope"])
        .failed("", "resource type 'nope' is not supported\n");
    store
        .run(&["get", "tier", ""])
        .failed("", "resource name may not be empty\n");
    store
        .run(&["get", "tier", "-o", "xml"])
        .failed("", "unrecognized output format 'xml'\n");
    store
        .run(&["get", "tier", "-o", "custom-columns="])
        .failed("", "need to specify at least one column\n");
    store
        .run(&["get", "tier", "x", "-o", "json"])
        .failed("null", "resource does not exist: Tier(x) with error: <nil>\n");
    store
        .run(&["get", "tier", "x", "-o", "yaml"])
        .failed("null\n", "resource does not exist: Tier(x) with error: <nil>\n");
    store
        .run(&["get", "tier", "x"])
        .failed("", "resource does not exist: Tier(x) with error: <nil>\n");
    store.run(&["get", "tier", "-o", "json"]).printed(
        "{\n  \"kind\": \"TierList\",\n  \"apiVersion\": \"projectcalico.org/v3\",\n  \"metadata\": {\n    \"resourceVersion\": \
         \"1\"\n  },\n  \"items\": []\n}",
    );
    store.run(&["get"]).failed(
        "",
        "resources are missing: give a kind and names, or name a file with -f\n",
    );
    store
        .run(&["apply"])
        .failed("", "resources are missing: name a file, a folder or - with -f\n");
    store.run(&["delete", "tier"]).failed(
        "",
        "failed to delete 'Tier' resource: [insufficient identifiers, missing 'Name']\n",
    );
    store.run(&["get", "tier", "-l", "loud"]).failed(
        "",
        "unknown log level: loud, expected one of: panic, fatal, error, warn, info, debug\n",
    );
    assert_eq!(
        harness::run_calicoctl(store.directory.path(), &["--nonsense"], &[], "").code,
        Some(1)
    );
    assert_eq!(
        harness::run_calicoctl(store.directory.path(), &["--help"], &[], "").code,
        Some(0)
    );
    let missing = harness::run_calicoctl(
        store.directory.path(),
        &["get", "tier"],
        &["-c", "/nonexistent.cfg"],
        "",
    );
    missing.failed("Error reading config file: /nonexistent.cfg\n", "");
    let kubernetes = store.write(
        "kdd.cfg",
        "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nspec: {datastoreType: kubernetes}\n",
    );
    let ran = harness::run_calicoctl(store.directory.path(), &["get", "tier"], &["-c", &kubernetes], "");
    assert!(
        ran.out
            .starts_with("Failed to create Calico API client: the Kubernetes datastore is not supported"),
        "{ran:?}"
    );
    assert_eq!(ran.code, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn versions() {
    let store = Fixture::start(StoreKind::Embedded).await;
    let ours = env!("CARGO_PKG_VERSION");
    let client = store.run(&["version", "--client"]);
    assert!(
        client
            .out
            .starts_with(&format!("Client Version:    v{ours}\nGit commit:        ")),
        "{client:?}"
    );
    let unset = store.run(&["version"]);
    assert_eq!(unset.code, Some(1));
    assert!(
        unset.err.starts_with(
            "unable to retrieve Cluster Version or Type: resource does not exist: ClusterInformation(default)"
        ),
        "{unset:?}"
    );
    let cluster = |version: &str| {
        format!(
            "{{\"kind\":\"ClusterInformation\",\"apiVersion\":\"projectcalico.org/v3\",\"metadata\":{{\"name\":\"default\",\"uid\":\"u\",\"creationTimestamp\":\"2026-08-22T10:11:12Z\"}},\"spec\":{{\"clusterGUID\":\"0\",\"clusterType\":\"k8s,bgp\",\"calicoVersion\":\"{version}\",\"datastoreReady\":true}}}}"
        )
    };
    let key = "/calico/resources/v3/projectcalico.org/clusterinformations/default";
    store.put(key, &cluster("v3.32.0"));
    let set = store.run(&["version"]);
    assert!(
        set.out
            .ends_with("Cluster Version:   v3.32.0\nCluster Type:      k8s,bgp\n"),
        "{set:?}"
    );
    // Calico's own version numbers are no reason to refuse.
    assert_eq!(store.run(&["get", "tier"]).code, Some(0));
    store.put(key, &cluster("v0.0.1"));
    store.run(&["get", "tier"]).failed(
        "",
        &format!(
            "version mismatch.\nClient Version:   v{ours}\nCluster Version:  v0.0.1\nUse --allow-version-mismatch to override\n"
        ),
    );
    assert_eq!(
        store.run(&["get", "tier", "--allow-version-mismatch"]).code,
        Some(0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away() {
    let mut store = Fixture::start(StoreKind::Embedded).await;
    let file = store.write(
        "pools.yaml",
        &format!("{}---\n{}", pool("a", "10.0.0.0/16"), pool("b", "10.1.0.0/16")),
    );
    store.stop().await;
    let started = std::time::Instant::now();
    let ran = store.run(&["apply", "-f", &file]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err
            .contains("unable to get Cluster Information to verify version mismatch"),
        "{ran:?}"
    );
    let ran = store.run(&["apply", "--allow-version-mismatch", "-f", &file]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err.starts_with(&format!(
            "failed to apply any 'IPPool' resources: [{file}:1: IPPool(a): "
        )),
        "{ran:?}"
    );
    assert!(started.elapsed().as_secs() < 30);
}

/// `calicoctl get ... | head -1`: the reader is gone before everything is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_is_no_panic() {
    let store = Fixture::start(StoreKind::Embedded).await;
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_calicoctl"))
        .args(["get", "profiles", "-c"])
        .arg(store.path("calicoctl.cfg"))
        .env_clear()
        .stdout(writer)
        .stderr(std::process::Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap().as_str()
        ),
        (Some(1), "")
    );
}
