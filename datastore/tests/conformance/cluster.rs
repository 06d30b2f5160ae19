//! Members, status, alarms, users.

use datastore::server::pb::etcdserverpb::*;

use crate::case::*;
use crate::group;

group!(cluster: members, status, alarms, authentication, identity);

async fn members(case: &mut Case) {
    let answer = case
        .cluster
        .member_list(MemberListRequest { linearizable: false })
        .await
        .expect("members")
        .into_inner();
    let header = answer.header.expect("a header");
    let member = answer.members.first().expect("a member");
    case.note((
        answer.members.len(),
        member.id == header.member_id,
        !member.name.is_empty(),
        member.client_ur_ls.len(),
        member
            .client_ur_ls
            .iter()
            .all(|url| url.starts_with("http://127.0.0.1:")),
        member.is_learner,
    ));
}

async fn status(case: &mut Case) {
    case.set("k", "v").await;
    let answer = case
        .maintenance
        .status(StatusRequest {})
        .await
        .expect("a status")
        .into_inner();
    let header = answer.header.expect("a header");
    case.note((
        header.revision - case.base,
        answer.version.starts_with("3.4."),
        answer.db_size > 0,
        answer.db_size_in_use > 0 && answer.db_size_in_use <= answer.db_size,
        answer.leader == header.member_id,
        answer.raft_index > 0,
        answer.raft_applied_index <= answer.raft_index,
        answer.raft_term == header.raft_term,
        answer.errors,
        answer.is_learner,
    ));
}

async fn alarms(case: &mut Case) {
    let answer = case.maintenance.alarm(AlarmRequest::default()).await;
    case.answer(answer);
    let answer = case.maintenance.defragment(DefragmentRequest {}).await;
    case.note(answer.is_ok());
    case.get("k").await;
}

async fn authentication(case: &mut Case) {
    let request = AuthenticateRequest {
        name: "root".into(),
        password: "secret".into(),
    };
    let answer = case.auth.authenticate(request).await;
    case.answer(answer);
    let answer = case.auth.user_list(AuthUserListRequest {}).await;
    case.answer(answer);
    let answer = case.auth.role_list(AuthRoleListRequest {}).await;
    case.answer(answer);
    let answer = case.auth.auth_disable(AuthDisableRequest {}).await;
    case.answer(answer);
}

async fn identity(case: &mut Case) {
    let first = case
        .kv
        .range(range("k"))
        .await
        .expect("an answer")
        .into_inner()
        .header
        .expect("a header");
    let second = case
        .kv
        .put(put("k", "v"))
        .await
        .expect("an answer")
        .into_inner()
        .header
        .expect("a header");
    case.note((
        first.cluster_id != 0 && first.member_id != 0 && first.cluster_id != first.member_id,
        (first.cluster_id, first.member_id, first.raft_term)
            == (second.cluster_id, second.member_id, second.raft_term),
        second.revision - first.revision,
    ));
}
