//! What other systems answer over HTTP, read no further than it may go.

use reqwest::Response;

/// Why an answer's body is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// The connection was lost on the way.
    #[error("the answer was cut off")]
    Cut,
    /// It is longer than it may be; the rest of it was not read.
    #[error("the answer is too long")]
    TooLong,
}

/// Reads an answer's body of at most so many bytes. It has no end in time: that is the caller's.
///
/// # Errors
/// [`Unread`]
pub async fn read(mut response: Response, most: usize) -> Result<Vec<u8>, Unread> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| Unread::Cut)? {
        if body.len() + chunk.len() > most {
            return Err(Unread::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
