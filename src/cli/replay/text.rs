//! What a replay came to, for people and for programs.

use crate::cli::text::{NOTHING, printable, table};
use crate::engine::replay::{Compared, NewMeter, OnlyIn, Replayed};
use serde_json::{Value, json};

pub fn to_json(replayed: Option<&Replayed>, compared: Option<&Compared>) -> String {
    let json = json!({ "replay": replayed.map(replayed_json), "diff": compared.map(compared_json) });
    format!("{json:#}\n")
}

fn replayed_json(replayed: &Replayed) -> Value {
    let meter = |new: &NewMeter| {
        json!({
            "meter": new.slug, "fed": new.fed, "late": new.late, "too_late": new.too_late, "unfit": new.unfit,
            "first_unfit": new.first_unfit.as_ref().map(|(seq, why)| json!({ "seq": seq.0, "why": why })),
        })
    };
    json!({
        "source": replayed.source.0, "replay": replayed.replay.0, "events": replayed.events, "left_out": replayed.left_out,
        "new_meters": replayed.meters.iter().map(meter).collect::<Vec<_>>(),
    })
}

fn compared_json(compared: &Compared) -> Value {
    let only = |only: &OnlyIn| {
        json!({
            "meter": only.meter, "only_in": side(only), "windows": only.windows, "periods": only.periods,
            "events": only.events, "total": only.total.map(|total| total.to_string()),
        })
    };
    let differences = compared
        .differences
        .iter()
        .map(|found| json!({ "what": found.what, "source": found.source, "replay": found.replay }));
    json!({
        "source": compared.source.0, "replay": compared.replay.0,
        "windows": compared.windows, "periods": compared.periods,
        "difference_count": compared.difference_count,
        "differences": differences.collect::<Vec<_>>(),
        "only": compared.only.iter().map(only).collect::<Vec<_>>(),
    })
}

fn side(only: &OnlyIn) -> &'static str {
    if only.in_replay { "replay" } else { "source" }
}

pub fn to_text(replayed: Option<&Replayed>, compared: Option<&Compared>) -> String {
    let mut text = String::new();
    if let Some(replayed) = replayed {
        text += &replayed_text(replayed);
    }
    if let Some(compared) = compared {
        text += &compared_text(compared);
    }
    text
}

fn replayed_text(replayed: &Replayed) -> String {
    let Replayed { source, replay, events, left_out, meters } = replayed;
    let mut text = format!("replayed {source} records into {replay}: {events} events");
    if *left_out > 0 {
        text += &format!(", {left_out} left out");
    }
    text.push('\n');
    if meters.is_empty() {
        return text;
    }
    let header = ["new meter", "events", "of them late", "too late", "unfit"];
    let rows = meters.iter().map(|new| {
        [
            printable(&new.slug),
            new.fed.to_string(),
            new.late.to_string(),
            new.too_late.to_string(),
            new.unfit.to_string(),
        ]
    });
    text += &format!("{}\n", table(header, rows, 1..5));
    for new in meters {
        if let Some((seq, why)) = &new.first_unfit {
            text += &format!("{}: the first unfit event is record {seq}: {}\n", printable(&new.slug), printable(why));
        }
    }
    text
}

fn compared_text(compared: &Compared) -> String {
    let mut text = String::new();
    for found in &compared.differences {
        let said = |said: &Option<String>| said.clone().unwrap_or_else(|| NOTHING.to_owned());
        text += &format!("{}\n  source: {}\n  replay: {}\n", found.what, said(&found.source), said(&found.replay));
    }
    for only in &compared.only {
        let total = only.total.map(|total| format!(", total {total}")).unwrap_or_default();
        text += &format!(
            "{}: only in the {}: {} windows, {} periods, {} events{total}\n",
            printable(&only.meter),
            side(only),
            only.windows,
            only.periods,
            only.events
        );
    }
    let Compared { source, replay, windows, periods, difference_count, .. } = compared;
    let result = if *difference_count == 0 { "equal".to_owned() } else { format!("{difference_count} differences") };
    text += &format!(
        "{result}: {windows} windows and {periods} periods, the source at record {source}, the replay at {replay}\n"
    );
    text
}
