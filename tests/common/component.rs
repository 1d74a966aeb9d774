//! The GitLab component as a project gets it.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// The component's second document with these inputs, the others as they are by default.
pub fn component(inputs: &[(&str, &str)]) -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("gitlab/templates/guard/template.yml");
    let text = fs::read_to_string(here).expect("the template");
    let (spec, jobs) = text.split_once("\n---\n").expect("two documents");
    let spec: Value = serde_saphyr::from_str(spec).expect("YAML");
    let mut jobs = jobs.to_owned();
    for (name, input) in spec["spec"]["inputs"].as_object().expect("inputs") {
        let own = inputs.iter().find(|(own, _)| own == name).map(|(_, value)| Value::from(*value));
        let value = own.unwrap_or_else(|| input["default"].clone());
        let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        jobs = jobs.replace(&format!("$[[ inputs.{name} ]]"), &value);
    }
    assert!(!jobs.contains("$[["), "an input is not declared: {jobs}");
    jobs
}
