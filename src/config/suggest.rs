//! "Did you mean": the known word nearest to an unknown one.

/// The nearest candidate, if it is near enough to be what was meant. Case and `-` for `_` cost nothing, and an
/// abbreviation costs little (`warning` for `warn`).
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = normal(word);
    let allowed = (word.chars().count() / 3).max(1);
    let distance = |candidate: &str| match normal(candidate) {
        known if shortens(&known, &word) || shortens(&word, &known) => 1,
        known => strsim::damerau_levenshtein(&word, &known),
    };
    candidates
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn shortens(short: &str, long: &str) -> bool {
    short.len() >= 3 && long.starts_with(short)
}

/// The nearest time zone: as a whole, or by its city alone (`Berlin`).
pub fn nearest_zone(word: &str) -> Option<String> {
    let names: Vec<String> =
        jiff::tz::TimeZoneDatabase::bundled().available().map(|name| name.as_str().to_owned()).collect();
    let city = |name: &str| name.rsplit('/').next().map(normal);
    let by_city = names.iter().find(|name| city(name).as_deref() == Some(normal(word).as_str()));
    by_city.cloned().or_else(|| nearest(word, names.iter().map(String::as_str)).map(str::to_owned))
}

/// "a, b or c", each word within a pair of quotes.
pub fn one_of<'a>(quote: char, words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("{quote}{word}{quote}")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

fn normal(word: &str) -> String {
    word.to_lowercase().replace(['-', ' '], "_")
}
