//! One file of a repository as it is at a commit: a policy or a workflow that the checked-out tree can't have changed.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::client::{Client, Connection, Error, escaped, repository};

#[derive(Deserialize)]
struct File {
    r#type: String,
    #[serde(default)]
    encoding: String,
    #[serde(default)]
    content: String,
}

impl Client {
    /// The file at `path` of `repository` (`owner/name`) at `reference`: a branch, a tag or a commit.
    ///
    /// `None` means that it is not there. GitHub also answers 404 to who may not look, so that is
    /// believed only when the commit itself can be read; else it is an error.
    pub fn contents(&self, repository: &str, path: &str, reference: &str) -> Result<Option<Vec<u8>>, Error> {
        self.spend(async |connection| contents(connection, repository, path, reference).await)?
    }
}

async fn contents(
    connection: &Connection,
    name: &str,
    path: &str,
    reference: &str,
) -> Result<Option<Vec<u8>>, Error> {
    let name = repository(name)?;
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.is_empty() || parts.contains(&"..") {
        return Err(Error::Refused(format!("`{path}` is no path of a file in a repository")));
    }
    let route: Vec<String> = parts.into_iter().map(escaped).collect();
    let query = escaped(reference);
    let answer =
        match connection.get(&format!("/repos/{name}/contents/{}?ref={query}", route.join("/"))).await {
            Err(Error::Answered { status: 404, .. }) => {
                connection.get(&format!("/repos/{name}/commits/{query}")).await?;
                return Ok(None);
            }
            answer => answer?,
        };
    // A folder is a list, and so no `File`.
    let file: File =
        answer.json().map_err(|_| Error::Answer(format!("`{path}` of {name} is no file at {reference}")))?;
    if file.r#type != "file" || file.encoding != "base64" {
        return Err(Error::Answer(format!("`{path}` of {name} is no file, or above 1 MB")));
    }
    let packed: Vec<u8> = file.content.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    BASE64_STANDARD.decode(packed).map(Some).map_err(|error| Error::Answer(error.to_string()))
}
