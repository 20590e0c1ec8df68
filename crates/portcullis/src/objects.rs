//! Which objects a command shows: `-n`, `-A` and `-l`, as in kubectl.

use crate::cli::Selection;
use portcullis_api::meta::{LabelSelector, LabelSelectorOperator, LabelSelectorRequirement, ObjectMeta};
use portcullis_api::{Extra, ObjectKey};

/// A parsed selection.
#[derive(Clone, Debug)]
pub(crate) struct Selected {
    namespace: Option<String>,
    labels: LabelSelector,
}

impl Selected {
    /// What was typed, or what is wrong with it.
    pub(crate) fn new(selection: &Selection) -> Result<Self, String> {
        let labels = parse_labels(selection.selector.as_deref().unwrap_or_default())?;
        labels.validate().map_err(|error| format!("--selector: {error}"))?;
        Ok(Self { namespace: selection.namespace.clone(), labels })
    }

    /// Whether an object is shown. Objects of the cluster belong to no namespace and are shown for all of them.
    pub(crate) fn contains(&self, key: &ObjectKey, metadata: &ObjectMeta) -> bool {
        let namespace = key.namespace();
        let wanted = self.namespace.as_deref().is_none_or(|wanted| namespace.is_empty() || namespace == wanted);
        wanted && self.labels.matches(&metadata.labels).unwrap_or(false)
    }
}

/// Reads a label selector as kubectl writes it.
fn parse_labels(text: &str) -> Result<LabelSelector, String> {
    let mut selector = LabelSelector::default();
    for part in split_outside_parentheses(text)? {
        let part = part.trim();
        if part.is_empty() {
            return Err(format!("--selector {text:?}: a requirement is missing between commas"));
        }
        selector.match_expressions.push(parse_requirement(part)?);
    }
    Ok(selector)
}

fn split_outside_parentheses(text: &str) -> Result<Vec<&str>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_u32);
    for (position, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.checked_sub(1).ok_or_else(|| format!("--selector {text:?}: a ')' without a '('"))?,
            b',' if depth == 0 => {
                parts.push(&text[start..position]);
                start = position + 1;
            }
            _ => {}
        }
    }
    if depth > 0 {
        return Err(format!("--selector {text:?}: a ')' is missing"));
    }
    parts.push(&text[start..]);
    Ok(parts)
}

fn parse_requirement(text: &str) -> Result<LabelSelectorRequirement, String> {
    let requirement = |key: &str, operator, values: Vec<String>| LabelSelectorRequirement {
        key: key.trim().to_owned(),
        operator,
        values,
        extra: Extra::default(),
    };
    let one = |value: &str| vec![value.trim().to_owned()];
    if let Some((head, list)) = text.strip_suffix(')').and_then(|rest| rest.split_once('(')) {
        let values = list.split(',').map(|value| value.trim().to_owned()).collect();
        let mut words = head.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => Ok(requirement(key, LabelSelectorOperator::In, values)),
            (Some(key), Some("notin"), None) => Ok(requirement(key, LabelSelectorOperator::NotIn, values)),
            _ => Err(format!("--selector: {text:?} is not of the form key in (a,b) or key notin (a,b)")),
        };
    }
    if let Some(key) = text.strip_prefix('!') {
        return Ok(requirement(key, LabelSelectorOperator::DoesNotExist, Vec::new()));
    }
    if let Some((key, value)) = text.split_once("!=") {
        return Ok(requirement(key, LabelSelectorOperator::NotIn, one(value)));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(requirement(key, LabelSelectorOperator::In, one(value)));
    }
    Ok(requirement(text, LabelSelectorOperator::Exists, Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::parse_labels;
    use std::collections::BTreeMap;

    #[test]
    fn selectors_choose_as_in_kubectl() {
        let labels: BTreeMap<String, String> =
            [("app", "web"), ("tier", "front")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        for (text, chosen) in [
            ("", true),
            ("app", true),
            ("!app", false),
            ("!other", true),
            ("app=web", true),
            ("app==web", true),
            ("app=other", false),
            ("app!=web", false),
            ("other!=web", true),
            ("app in (web, api)", true),
            ("app in (api)", false),
            ("app notin (api),tier=front", true),
            ("app=web,tier=back", false),
        ] {
            assert_eq!(parse_labels(text).unwrap().matches(&labels).unwrap(), chosen, "{text}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in ["app=web,,tier", "app in (a", "app) in", "app within (a)", ","] {
            assert!(parse_labels(text).is_err(), "{text}");
        }
    }
}
