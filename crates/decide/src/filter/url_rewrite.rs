//! URLRewrite: the Host and the path of the forwarded request. The query stays as it is.

use super::{LinkedPathModifier, RewrittenPath};
use http::HeaderValue;
use http::uri::Authority;
use portcullis_model::UrlRewrite;

/// A rewrite.
#[derive(Debug)]
pub(crate) struct LinkedUrlRewrite {
    pub(crate) host: Option<(HeaderValue, Authority)>,
    pub(crate) path: Option<LinkedPathModifier>,
}

impl LinkedUrlRewrite {
    pub(crate) fn new(rewrite: &UrlRewrite, by_prefix: bool) -> Result<Self, String> {
        let host = |name: &str| {
            let name = host_name(name)?;
            let refused = || "the hostname cannot be a Host".to_owned();
            Ok::<_, String>((
                HeaderValue::from_str(&name).map_err(|_| refused())?,
                name.parse().map_err(|_| refused())?,
            ))
        };
        Ok(Self {
            host: rewrite.hostname.as_deref().map(host).transpose()?,
            path: rewrite.path.as_ref().map(|path| LinkedPathModifier::new(path, by_prefix)).transpose()?,
        })
    }

    pub(crate) fn edit_path(&self, path: &mut RewrittenPath<'_>) {
        if let Some(modifier) = &self.path {
            modifier.apply(path);
        }
    }
}

/// A hostname field in the form that hosts are compared in.
pub(super) fn host_name(name: &str) -> Result<String, String> {
    match crate::host::parse_name(name) {
        Ok(parsed) if !parsed.is_empty() => Ok(parsed.into_owned()),
        _ => Err(format!("\"{}\" is not a host name", name.escape_default())),
    }
}
