//! Actions whose work it is to change what a posture check looks at.

use std::sync::LazyLock;

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Action {
    /// `owner/name`
    #[serde(rename = "action")]
    name: String,
    /// Ids of posture checks.
    checks: Vec<String>,
    /// As the report says it.
    reason: String,
}

static ACTIONS: LazyLock<Vec<Action>> = LazyLock::new(|| {
    serde_saphyr::from_str(include_str!("setup.yml"))
        .unwrap_or_else(|error| panic!("catalogue/setup.yml: {error}"))
});

/// Why a step that uses this (`actions/checkout@v5`) changes what the check looks at.
pub fn reason(uses: &str, check: &str) -> Option<&'static str> {
    let action = uses.split('@').next().unwrap_or_default();
    let known = ACTIONS.iter().find(|known| known.name.eq_ignore_ascii_case(action))?;
    known.checks.iter().any(|known| known == check).then_some(known.reason.as_str())
}

#[test]
fn each_row_is_about_checks_that_there_are() {
    for action in ACTIONS.iter() {
        for check in &action.checks {
            let is_known = super::posture::checks().iter().any(|known| known.id == *check);
            assert!(is_known, "{}: there is no check {check}", action.name);
        }
    }
    assert!(reason("actions/checkout@v5", "git-hooks").is_some());
    assert!(reason("actions/checkout-other@v5", "git-hooks").is_none());
    assert!(reason("actions/checkout@v5", "sudoers").is_none());
}
