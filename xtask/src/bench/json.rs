//! The report for a machine: every round and every figure.

use serde_json::{Map, Value, json};

use super::outcome::{Figures, Outcome, Spread};
use super::row::Row;
use super::scene::Scene;

/// Of the text's shape.
const SCHEMA: &str = "memwire-bench-2";

/// All of a run.
pub(super) fn text(scene: &Scene, outcomes: &[Outcome]) -> String {
    let facts = |facts: &[(&str, String)]| -> Map<String, Value> {
        facts.iter().map(|(name, fact)| ((*name).to_owned(), json!(fact))).collect()
    };
    let report = json!({
        "schema": SCHEMA,
        "command": scene.command,
        "began": scene.began,
        "machine": facts(&scene.machine),
        "versions": facts(&scene.versions),
        "tsc_ghz": scene.tsc_ghz,
        "cases": outcomes.iter().map(case).collect::<Vec<_>>(),
    });
    format!("{report:#}\n")
}

fn case(outcome: &Outcome) -> Value {
    let case = &outcome.case;
    json!({
        "suite": case.suite.name(),
        "unit": case.suite.unit().name(),
        "case": case.name,
        "target": {
            "ticks": case.ticks,
            "instructions": case.instructions,
            "instructions_above_peer": case.more,
            "ratio": case.ratio,
        },
        "skipped": outcome.skipped,
        "figures": outcome.figures().iter().map(|line| figures(outcome, line)).collect::<Vec<_>>(),
        "rounds": outcome.rounds.iter().map(|round| json!({
            "memwire": row(&round.memwire),
            "peers": case.peers.iter().zip(&round.peers).map(|(name, rows)| json!({
                "name": name, "builds": rows.iter().map(row).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}

fn figures(outcome: &Outcome, line: &Figures) -> Value {
    json!({
        "placement": line.placement,
        "ticks": line.ticks,
        "memwire": spread(&line.spread),
        "peers": line.peers.iter().map(|peer| json!({
            "name": peer.name,
            "ticks": peer.ticks,
            "ratio": peer.ratio,
            "spread": spread(&peer.spread),
        })).collect::<Vec<_>>(),
        "ratio": line.ratio,
        "missed": outcome.misses_of(line, true),
    })
}

fn spread(spread: &Spread) -> Value {
    json!({
        "least": spread.least,
        "median": spread.median,
        "p90": spread.p90,
        "instructions": spread.instructions,
        "host_bytes": spread.host_bytes,
    })
}

fn row(row: &Row) -> Value {
    json!({
        "least": row.least,
        "median": row.median,
        "p90": row.p90,
        "instructions": row.instructions,
        "placement": row.placement,
        "host_bytes": row.host_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Round;
    use super::super::outcome::tests::{case, row};
    use super::*;

    #[test]
    fn it_holds_the_machine_rounds_and_figures() {
        let round =
            Round { memwire: row(10.0, 11.0, None), peers: vec![vec![row(20.0, 22.0, None)]] };
        let outcome = Outcome { rounds: vec![round], ..Outcome::new(case(false)) };
        let scene = Scene::default();

        let value: Value = serde_json::from_str(&text(&scene, &[outcome])).expect("JSON");

        let case = &value["cases"][0];
        assert_eq!(case["suite"], "ring");
        assert_eq!(case["figures"][0]["ratio"], 0.5);
        assert_eq!(case["figures"][0]["memwire"]["p90"], 22.0);
        assert_eq!(case["rounds"][0]["peers"][0]["builds"][0]["least"], 20.0);
    }
}
