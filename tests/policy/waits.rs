//! `hub.wait` in `on_request`: the verdict, and what a request keeps from one asking to the next.

use mlx_openai_server_hub::policy::{Policies, RequestVerdict, RequestView, Wait};

use crate::world::{Hub, rejected, request};

/// Asks about a request as the gateway does: again with what the asking before left.
fn ask_again(
    policies: &Policies,
    mut view: Box<RequestView>,
) -> (Box<RequestView>, RequestVerdict) {
    view.parked.waited_seconds += 1.5;
    policies.on_request(view)
}

#[test]
fn a_request_may_be_told_to_wait_and_under_which_key() {
    for (fields, client) in [
        ("", None),
        (", client = 'team a'", Some("team a".to_owned())),
    ] {
        let hub = Hub::with(&format!(
            "return {{ on_request = function(_, hub) return hub.wait{{seconds = 2{fields}}} end }}"
        ));
        let (verdict, policies) = hub.ask();
        let wait = Wait {
            seconds: 2.0,
            client,
        };
        assert_eq!(verdict, RequestVerdict::Wait(wait));
        assert_eq!(policies.warnings(), [""; 0]);
    }
}

const COUNTS: &str = "return { on_request = function(req, hub)
  local vars = req.vars
  vars.asked = (vars.asked or 0) + 1
  vars.list = vars.list or { 'a', 'b', named = { [5] = 2.5 } }
  vars[req.vars.asked] = true
  if req.waited_seconds < 2 then return hub.wait{seconds = 1} end
  local list = vars.list
  return hub.reject{status = 400, message = table.concat({
    vars.asked, math.type(vars.asked), #list, list[2], list.named[5], tostring(vars[1]),
    tostring(req.waited_seconds)}, ' ')}
end }";

#[test]
fn vars_are_kept_while_a_request_waits_also_over_a_reload() {
    let hub = Hub::with(COUNTS);
    let policies = hub.load();
    let (view, first) = policies.on_request(request("alpha"));
    let (view, second) = ask_again(&policies, view);
    for verdict in [first, second] {
        assert!(matches!(verdict, RequestVerdict::Wait(_)), "{verdict:?}");
    }
    policies.reload(hub.path(), &[]);
    let (_, verdict) = ask_again(&policies, view);
    assert_eq!(rejected(&verdict).1, "3 integer 2 b 2.5 true 3.0");
    assert_eq!(policies.warnings(), [""; 0]);
}

#[test]
fn the_verdict_is_acted_on_before_another_request_is_asked_about() {
    let hub = Hub::with(
        "return { on_request = function(req, hub)
           if hub.models.alpha.active > 0 then return hub.wait{seconds = 60} end
         end }",
    );
    let policies = hub.load();
    let ask = || {
        let (_, goes) = policies.on_request_then(request("alpha"), |_, verdict| {
            let goes = verdict == RequestVerdict::Pass;
            if goes {
                hub.world.models.write()[0].activity.active_requests += 1;
            }
            goes
        });
        goes
    };
    let went = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..50).filter(|_| ask()).count()))
            .collect();
        let went = asking.into_iter().map(|asking| asking.join().unwrap());
        went.sum::<usize>()
    });
    assert_eq!(went, 1);
}
