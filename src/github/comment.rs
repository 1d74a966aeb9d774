//! The one comment on a pull request that each job keeps up to date.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Place;
use super::client::{Connection, Error, repository};
use crate::finding::Report;
use crate::reports;

/// GitHub takes 65,536 characters.
const LIMIT: usize = 60_000;

const MOST_PAGES: u32 = 20;
const PER_PAGE: usize = 100;

#[derive(Serialize)]
struct Body {
    body: String,
}

#[derive(Deserialize)]
struct Comment {
    id: u64,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    author_association: String,
    #[serde(default)]
    user: Option<User>,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    r#type: String,
}

pub(super) async fn publish(
    connection: &Connection,
    report: &Report,
    place: &Place,
    number: u64,
) -> Result<(), Error> {
    let name = repository(&place.repository)?;
    let marker = marker(place);
    let body = Body { body: page(report, place, &marker) };
    if let Some(id) = find(connection, name, number, &marker).await? {
        connection.patch(&format!("/repos/{name}/issues/comments/{id}"), &body).await?;
        return Ok(());
    }
    let route = format!("/repos/{name}/issues/{number}/comments");
    // The id is of no use, and one that is there already says the same.
    let find = async || Ok(find(connection, name, number, &marker).await?.map(|_| ()));
    connection.make(&route, &body, |_| Ok(()), find).await
}

async fn find(connection: &Connection, name: &str, number: u64, marker: &str) -> Result<Option<u64>, Error> {
    for page in 1..=MOST_PAGES {
        let route = format!("/repos/{name}/issues/{number}/comments?per_page={PER_PAGE}&page={page}");
        let comments: Vec<Comment> = connection.get(&route).await?.json()?;
        if let Some(ours) = comments.iter().find(|comment| is_ours(comment, marker)) {
            return Ok(Some(ours.id));
        }
        if comments.len() < PER_PAGE {
            break;
        }
    }
    Ok(None)
}

/// Anybody may write the marker, and who wrote a comment may change it later. So it must be a bot's, or
/// that of somebody who can write to the repository anyhow.
fn is_ours(comment: &Comment, marker: &str) -> bool {
    let is_trusted = comment.user.as_ref().is_some_and(|user| user.r#type == "Bot")
        || ["OWNER", "MEMBER", "COLLABORATOR"].contains(&comment.author_association.as_str());
    is_trusted && comment.body.as_deref().is_some_and(|body| body.starts_with(marker))
}

/// The same in every run of this job. A digest, so that a job's name can't close the comment.
fn marker(place: &Place) -> String {
    let digest = Sha256::digest(format!("{}\n{}", place.workflow.as_deref().unwrap_or_default(), place.job));
    let short = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("<!-- edamame-guard {short:016x} -->")
}

fn page(report: &Report, place: &Place, marker: &str) -> String {
    let job = reports::text::code(&place.job, 200);
    let page = place
        .page
        .as_deref()
        .filter(|page| {
            page.starts_with("https://") && !page.contains(|c: char| c.is_whitespace() || "<>()".contains(c))
        })
        .map_or_else(String::new, |page| format!(" · [the run]({page})"));
    let summary = reports::summary_within(report, LIMIT - 1000);
    format!("{marker}\n### edamame-guard: {job}\n\n{summary}\n\nAt {}{page}\n", place.commit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comment(body: &str, association: &str, kind: &str) -> Comment {
        Comment {
            id: 1,
            body: Some(body.to_owned()),
            author_association: association.to_owned(),
            user: Some(User { r#type: kind.to_owned() }),
        }
    }

    #[test]
    fn a_stranger_cannot_lend_a_comment() {
        let marker = "<!-- edamame-guard 0011223344556677 -->";
        let body = format!("{marker}\nold");
        assert!(is_ours(&comment(&body, "NONE", "Bot"), marker));
        assert!(is_ours(&comment(&body, "MEMBER", "User"), marker));
        assert!(!is_ours(&comment(&body, "NONE", "User"), marker));
        assert!(!is_ours(&comment(&body, "CONTRIBUTOR", "User"), marker));
        assert!(!is_ours(&comment(&format!("quoting {body}"), "NONE", "Bot"), marker));
        assert!(!is_ours(&comment(&body, "NONE", "Bot"), "<!-- edamame-guard 0000000000000000 -->"));
    }
}
